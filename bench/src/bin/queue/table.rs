//! The table and the verdicts.

use grey_bench::figures::{Check, mb, median, print_table};

use crate::{BARE, Backlog, Measured, Options, Turn};

/// How many times slower than the bare loop ours may be.
const BARE_RATIO_MAX: f64 = 2.0;
/// The same when items are sealed.
const SEALED_RATIO_MAX: f64 = 3.0;

impl Measured {
    fn of(&self, figure: impl Fn(&Turn) -> f64) -> f64 {
        median(self.turns.iter().map(figure))
    }

    fn append(&self) -> f64 {
        self.of(|turn| turn.records as f64 / turn.append_s)
    }

    fn drain(&self) -> f64 {
        self.of(|turn| turn.records as f64 / turn.drain_s)
    }

    fn cpu_us(&self) -> f64 {
        self.of(|turn| turn.cpu_s * 1e6 / turn.records as f64)
    }

    fn disk_bytes(&self) -> f64 {
        self.of(|turn| turn.disk_bytes as f64 / turn.records as f64)
    }

    fn resident(&self) -> f64 {
        self.backlog.map_or(f64::NAN, |backlog| backlog.resident.max(backlog.resident_reopened) as f64)
    }

    fn reopen_ms(&self) -> f64 {
        self.backlog.map_or(f64::NAN, |backlog| backlog.reopen_s * 1e3)
    }
}

/// Prints a row for each.
pub(crate) fn print(measured: &[Measured], options: &Options) {
    let head = [
        "",
        "append synced",
        "removal synced",
        "append/s",
        "drain/s",
        "CPU µs/record",
        "bytes/record",
        "backlog",
        "resident",
        "reopen ms",
    ];
    let said = |is_durable: bool| if is_durable { "yes" } else { "no" }.to_owned();
    let rows: Vec<Vec<String>> = measured
        .iter()
        .map(|own| {
            let backlog = |text: &dyn Fn(&Backlog) -> String| own.backlog.as_ref().map_or("-".to_owned(), text);
            let gb = if own.contender.is_slow { options.slow_backlog_gb } else { options.backlog_gb };
            vec![
                own.contender.name.to_owned(),
                said(own.contender.appends_durably),
                said(own.contender.removes_durably),
                format!("{:.0}", own.append()),
                format!("{:.0}", own.drain()),
                format!("{:.2}", own.cpu_us()),
                format!("{:.1}", own.disk_bytes()),
                backlog(&|_| format!("{gb} GB")),
                backlog(&|_| mb(own.resident() as u64)),
                backlog(&|found| {
                    let is_warm = if found.is_cold { "" } else { " warm" };
                    if found.reopen_s.is_nan() { "-".to_owned() } else { format!("{:.1}{is_warm}", own.reopen_ms()) }
                }),
            ]
        })
        .collect();
    print_table(&head, &rows);
}

/// A figure that is compared, and whose work is the same.
struct Column {
    what: &'static str,
    own: &'static str,
    figure: fn(&Measured) -> f64,
    is_more_better: bool,
    /// Those that are as durable as ours.
    is_equal: fn(&Measured) -> bool,
}

const COLUMNS: [Column; 7] = [
    Column { what: "append", own: "grey", figure: Measured::append, is_more_better: true, is_equal: appends_durably },
    Column {
        what: "drain, synced",
        own: "grey",
        figure: Measured::drain,
        is_more_better: true,
        is_equal: removes_durably,
    },
    Column {
        what: "drain, not synced",
        own: "grey, lazy acks",
        figure: Measured::drain,
        is_more_better: true,
        is_equal: removes_lazily,
    },
    Column { what: "CPU", own: "grey", figure: Measured::cpu_us, is_more_better: false, is_equal: appends_durably },
    Column {
        what: "bytes on disk",
        own: "grey",
        figure: Measured::disk_bytes,
        is_more_better: false,
        is_equal: appends_durably,
    },
    Column {
        what: "memory with a backlog",
        own: "grey",
        figure: Measured::resident,
        is_more_better: false,
        is_equal: appends_durably,
    },
    Column {
        what: "reopening",
        own: "grey",
        figure: Measured::reopen_ms,
        is_more_better: false,
        is_equal: appends_durably,
    },
];

fn appends_durably(measured: &Measured) -> bool {
    measured.contender.appends_durably
}

fn removes_durably(measured: &Measured) -> bool {
    measured.contender.removes_durably
}

fn removes_lazily(measured: &Measured) -> bool {
    measured.contender.appends_durably && !measured.contender.removes_durably
}

/// Ours against the best of those that are as durable, and against the bare loop.
pub(crate) fn checks(measured: &[Measured]) -> Vec<Check> {
    let mut checks = Vec::new();
    let named = |name: &str| measured.iter().find(|measured| measured.contender.name == name);
    for column in &COLUMNS {
        let Some(own) = named(column.own) else { continue };
        let ratio = |column: &Column, peer: &Measured| {
            let (own, peer) = ((column.figure)(own), (column.figure)(peer));
            if column.is_more_better { own / peer } else { peer / own }
        };
        let peers = measured.iter().filter(|peer| {
            !peer.contender.is_own
                && peer.contender.name != BARE
                && (column.is_equal)(peer)
                && !(column.figure)(peer).is_nan()
        });
        let best = peers.min_by(|a, b| ratio(column, a).total_cmp(&ratio(column, b)));
        if let Some(best) = best.filter(|_| !(column.figure)(own).is_nan()) {
            let what = format!("{}: times better than the best peer as durable, {}", column.what, best.contender.name);
            checks.push(Check::new(&what, ratio(column, best), true, 1.0, ""));
        }
    }
    if let Some(bare) = named(BARE) {
        // The bare loop syncs no removal: drains are compared with those that do not either.
        let limits =
            [("grey", BARE_RATIO_MAX), ("grey, lazy acks", BARE_RATIO_MAX), ("grey, sealed", SEALED_RATIO_MAX)];
        for (name, limit) in limits {
            let Some(own) = named(name) else { continue };
            let mut check = |what: &str, ratio: f64| {
                checks.push(Check::new(
                    &format!("{name}, {what}: times slower than the bare loop"),
                    ratio,
                    false,
                    limit,
                    "",
                ));
            };
            check("append", bare.append() / own.append());
            if !own.contender.removes_durably {
                check("drain", bare.drain() / own.drain());
            }
        }
    }
    checks
}

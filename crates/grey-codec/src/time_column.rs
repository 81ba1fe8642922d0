//! The columns of stamps and of device times.

use grey_model::{Reader, Stamp, WireError, Writer};

use crate::error::CodecError;
use crate::number::{bits, unzigzag, zigzag};

const COUNTER_MASK: u64 = (1 << Stamp::COUNTER_BITS) - 1;

/// Appends stamps in order of sequence: milliseconds as differences, then
/// counters (as differences within a millisecond), then runs of equal uncertainty.
pub(crate) fn write_stamps(stamps: impl Iterator<Item = Stamp> + Clone, out: &mut Vec<u8>, mut cut: impl FnMut(usize)) {
    let mut last = 0;
    for stamp in stamps.clone() {
        let ms = stamp.hlc >> Stamp::COUNTER_BITS;
        out.put_varint_signed(ms.wrapping_sub(last) as i64);
        last = ms;
    }
    cut(out.len());
    let mut last = 0;
    for stamp in stamps.clone() {
        out.put_varint_signed(counter_difference(last, stamp.hlc));
        last = stamp.hlc;
    }
    cut(out.len());
    let mut run = (0_u64, 0_u32);
    for stamp in stamps {
        if run.0 > 0 && run.1 != stamp.uncertainty_ms {
            put_run(run, out);
            run.0 = 0;
        }
        run = (run.0 + 1, stamp.uncertainty_ms);
    }
    if run.0 > 0 {
        put_run(run, out);
    }
    cut(out.len());
}

fn put_run((len, uncertainty_ms): (u64, u32), out: &mut Vec<u8>) {
    out.put_varint(len);
    out.put_varint(uncertainty_ms.into());
}

/// The counter as a difference from the last one of the same millisecond, or from 0.
fn counter_difference(last: u64, hlc: u64) -> i64 {
    let base = if last >> Stamp::COUNTER_BITS == hlc >> Stamp::COUNTER_BITS { last & COUNTER_MASK } else { 0 };
    (hlc & COUNTER_MASK) as i64 - base as i64
}

/// Reads `len` stamps.
pub(crate) fn read_stamps(reader: &mut Reader<'_>, len: usize) -> Result<Vec<Stamp>, CodecError> {
    // Every stamp takes a byte and more.
    let mut stamps = Vec::with_capacity(len.min(reader.remaining()));
    let mut last = 0_i64;
    for _ in 0..len {
        last = last.wrapping_add(reader.varint_signed()?);
        let ms = u64::try_from(last).ok().filter(|ms| ms >> (64 - Stamp::COUNTER_BITS) == 0);
        let hlc = ms.ok_or_else(|| reader.invalid("stamp"))? << Stamp::COUNTER_BITS;
        stamps.push(Stamp { hlc, uncertainty_ms: 0 });
    }
    let mut last = 0_u64;
    for stamp in &mut stamps {
        let base =
            if last >> Stamp::COUNTER_BITS == stamp.hlc >> Stamp::COUNTER_BITS { last & COUNTER_MASK } else { 0 };
        let counter = (base as i64).wrapping_add(reader.varint_signed()?) as u64;
        if counter > COUNTER_MASK {
            return Err(reader.invalid("stamp counter").into());
        }
        stamp.hlc |= counter;
        last = stamp.hlc;
    }
    let mut rest = stamps.as_mut_slice();
    while !rest.is_empty() {
        let run = reader.count("run of uncertainty", rest.len() as u64)? as usize;
        let uncertainty_ms = reader.count("uncertainty", u32::MAX.into())? as u32;
        if run == 0 {
            return Err(reader.invalid("run of uncertainty").into());
        }
        let (head, tail) = rest.split_at_mut(run);
        head.iter_mut().for_each(|stamp| stamp.uncertainty_ms = uncertainty_ms);
        rest = tail;
    }
    Ok(stamps)
}

/// How device times are predicted. The fittest is chosen per block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Mode {
    /// By the event before: differences in order of sequence.
    Arrival = 0,
    /// By the series' last interval.
    Interval = 1,
    /// By the series' mean interval.
    MeanInterval = 2,
    /// By the stamp, less the lag of the series' event before.
    Lag = 3,
}

impl Mode {
    const ALL: [Mode; 4] = [Mode::Arrival, Mode::Interval, Mode::MeanInterval, Mode::Lag];
}

/// Device times and what predicts them.
#[derive(Debug)]
pub(crate) struct Times<'a> {
    /// Device times in order of sequence.
    pub(crate) arrival: &'a [i64],
    /// The milliseconds of the stamps in order of sequence.
    pub(crate) stamps: &'a [i64],
    /// Sequence order's places, series by series.
    pub(crate) order: &'a [u32],
    /// Events of each series.
    pub(crate) lens: &'a [u32],
}

impl Times<'_> {
    /// Appends the mode and the column.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let cost = |mode: &Mode| {
            let mut sum = 0;
            self.transform(*mode, |word| sum += bits(word));
            sum
        };
        let mode = Mode::ALL.into_iter().min_by_key(cost).unwrap_or(Mode::Arrival);
        out.push(mode as u8);
        self.transform(mode, |word| out.put_varint(word));
    }

    fn transform(&self, mode: Mode, mut emit: impl FnMut(u64)) {
        if mode == Mode::Arrival {
            let mut last = 0_i64;
            for &time in self.arrival {
                emit(zigzag(time.wrapping_sub(last)));
                last = time;
            }
            return;
        }
        let mut rest = self.order;
        let mut base = 0_i64;
        for &len in self.lens {
            let (series, tail) = rest.split_at(len as usize);
            rest = tail;
            let value = |at: u32| match mode {
                Mode::Lag => self.stamps[at as usize].wrapping_sub(self.arrival[at as usize]),
                _ => self.arrival[at as usize],
            };
            let (Some(&first), Some(&end)) = (series.first(), series.last()) else { continue };
            let first = value(first);
            emit(zigzag(first.wrapping_sub(base)));
            base = first;
            let mut expected = 0_i64;
            if mode == Mode::MeanInterval && len > 1 {
                expected = ((i128::from(value(end)) - i128::from(first)) / i128::from(len - 1)) as i64;
                emit(zigzag(expected));
            }
            let mut last = first;
            for &at in &series[1..] {
                let value = value(at);
                let step = value.wrapping_sub(last);
                emit(zigzag(step.wrapping_sub(expected)));
                last = value;
                if mode == Mode::Interval {
                    expected = step;
                }
            }
        }
    }
}

/// Reads device times in order of sequence; `stamps` and `order` are as in [`Times`].
pub(crate) fn read_times(
    reader: &mut Reader<'_>,
    stamps: &[Stamp],
    order: &[u32],
    lens: &[u32],
) -> Result<Vec<i64>, CodecError> {
    let tag = reader.u8()?;
    let mode = Mode::ALL.get(usize::from(tag)).copied().ok_or_else(|| reader.invalid("time mode"))?;
    let mut times = vec![0_i64; order.len()];
    let mut next = || -> Result<i64, WireError> { reader.varint().map(unzigzag) };
    if mode == Mode::Arrival {
        let mut last = 0_i64;
        for time in &mut times {
            last = last.wrapping_add(next()?);
            *time = last;
        }
        return Ok(times);
    }
    let mut rest = order;
    let mut base = 0_i64;
    for &len in lens {
        let (series, tail) = rest.split_at((len as usize).min(rest.len()));
        rest = tail;
        let mut put = |at: u32, value: i64| {
            let at = at as usize;
            times[at] = if mode == Mode::Lag { stamps[at].unix_ms().wrapping_sub(value) } else { value };
        };
        let Some((&first, others)) = series.split_first() else { continue };
        base = base.wrapping_add(next()?);
        put(first, base);
        let mut expected = if mode == Mode::MeanInterval && !others.is_empty() { next()? } else { 0 };
        let mut last = base;
        for &at in others {
            let step = next()?.wrapping_add(expected);
            last = last.wrapping_add(step);
            put(at, last);
            if mode == Mode::Interval {
                expected = step;
            }
        }
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip_times(series: &[usize], times: &[i64], stamps: &[Stamp]) -> (u8, Vec<i64>) {
        let count = series.iter().max().map_or(0, |max| max + 1);
        let order: Vec<u32> = (0..count)
            .flat_map(|wanted| (0..series.len()).filter(move |&at| series[at] == wanted).map(|at| at as u32))
            .collect();
        let lens: Vec<u32> =
            (0..count).map(|wanted| series.iter().filter(|&&found| found == wanted).count() as u32).collect();
        let ms: Vec<i64> = stamps.iter().map(|stamp| stamp.unix_ms()).collect();
        let mut out = Vec::new();
        Times { arrival: times, stamps: &ms, order: &order, lens: &lens }.write(&mut out);
        let mut reader = Reader::new(&out);
        let found = read_times(&mut reader, stamps, &order, &lens).unwrap();
        assert!(reader.is_empty());
        (out[0], found)
    }

    #[test]
    fn the_fittest_prediction_is_chosen() {
        let stamp = |ms: i64| Stamp::at_unix_ms(1_760_000_000_000 + ms);
        let series: Vec<usize> = (0..40).map(|at| at % 4).collect();
        let stamps: Vec<Stamp> = (0..40).map(|at| stamp(at * 7 + at * at % 5)).collect();
        let steady: Vec<i64> = (0..40).map(|at| 5_000 * (at / 4) + 77_777 * (at % 4)).collect();
        assert_eq!(round_trip_times(&series, &steady, &stamps), (Mode::Interval as u8, steady));
        let offset: Vec<i64> = (0..40).map(|at| stamps[at].unix_ms() - 3_600_000 * (at as i64 % 4)).collect();
        assert_eq!(round_trip_times(&series, &offset, &stamps), (Mode::Lag as u8, offset));
        let same: Vec<i64> = (0..40).map(|at| at / 8).collect();
        assert_eq!(round_trip_times(&series, &same, &stamps), (Mode::Arrival as u8, same));
        let alone = vec![0; 40];
        let jitter: Vec<i64> = (0..40).map(|at| 5_000 * at + at * at * 13 % 17).collect();
        assert_eq!(round_trip_times(&alone, &jitter, &stamps), (Mode::MeanInterval as u8, jitter));
    }

    proptest! {
        #[test]
        fn any_times_round_trip(rows in prop::collection::vec((0..4_usize, any::<i64>(), any::<u64>()), 0..30)) {
            let series: Vec<usize> = rows.iter().map(|row| row.0).collect();
            let times: Vec<i64> = rows.iter().map(|row| row.1).collect();
            let stamps: Vec<Stamp> = rows.iter().map(|row| Stamp { hlc: row.2, uncertainty_ms: 0 }).collect();
            prop_assert_eq!(round_trip_times(&series, &times, &stamps).1, times);
        }

        #[test]
        fn any_stamps_round_trip(rows in prop::collection::vec((any::<u64>(), prop_oneof![Just(5_u32), any::<u32>()]), 0..30)) {
            let stamps: Vec<Stamp> = rows.iter().map(|&(hlc, uncertainty_ms)| Stamp { hlc, uncertainty_ms }).collect();
            let mut out = Vec::new();
            write_stamps(stamps.iter().copied(), &mut out, |_| {});
            let mut reader = Reader::new(&out);
            prop_assert_eq!(read_stamps(&mut reader, stamps.len()).unwrap(), stamps);
            prop_assert!(reader.is_empty());
        }
    }
}

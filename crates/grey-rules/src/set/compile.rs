//! From rules as they are written to rules that run. Every mistake is
//! collected, so that one look at a configuration names them all.

use std::collections::BTreeMap;
use std::sync::Arc;

use grey_config::{Duration, Severity};
use grey_expr::{Comparison, Expr, Schema};
use grey_infer::Library;
use grey_model::Name;
use grey_model::limits::NAME_BYTES_MAX;

use super::check;
use super::{
    Aggregate, AlertRule, Condition, Filter, Input, LimitOn, Patterns, Predicate, RULES_MAX, RuleError, RuleSet, Scope,
    Subject, Test, Threshold, Verdicts, fnv1a, source, unit,
};
use crate::spec::{
    Action, AggregateRule, AlarmSpec, AnomalyRule, Effect, FilterRule, RateLimit, RuleSpec, Rules, SpectrumRule, Texts,
    ThresholdRule,
};
use crate::words::{Words, clipped};

/// Prepares rules; `Err` has everything that is wrong with them.
pub(super) fn compile(rules: &Rules, library: &dyn Library) -> Result<RuleSet, Vec<RuleError>> {
    let specs = rules.rules.as_slice();
    let names: Vec<Name> = specs.iter().enumerate().map(|(n, spec)| spec.name(n).into()).collect();
    let mut compiler = Compiler {
        set: RuleSet {
            rules: rules.clone(),
            source: Vec::new(),
            digest: 0,
            warnings: Vec::new(),
            forward: rules.forward,
            limits: rules.limits.clone(),
            names,
            identities: specs.iter().map(|spec| identity_of(&[&source::rendered(spec).to_yaml()])).collect(),
            scopes: vec![Scope::Device],
            inputs: Vec::new(),
            watched: Vec::new(),
            conditions: Vec::new(),
            thresholds: Vec::new(),
            alerts: Vec::new(),
            aggregates: Vec::new(),
            filters: Vec::new(),
            detectors: Vec::new(),
            models: Vec::new(),
            spectra: Vec::new(),
            words: Words::new(),
        },
        schema: check::schema(rules),
        errors: Vec::new(),
    };
    if specs.len() > RULES_MAX {
        return Err(vec![RuleError::TooMany(specs.len())]);
    }
    let mut first_of: BTreeMap<Name, usize> = BTreeMap::new();
    for index in 0..specs.len() {
        let name = compiler.set.names[index].clone();
        if name.len() > NAME_BYTES_MAX {
            let problem = format!("has {} bytes", name.len());
            compiler.reject(index, "name", problem, format!("up to {NAME_BYTES_MAX} bytes"));
        }
        match first_of.get(&name) {
            Some(first) => {
                let problem = format!("is already the name of rule {}", first + 1);
                compiler.reject(index, "name", problem, "each name once");
            }
            None => _ = first_of.insert(name, index),
        }
    }
    for (index, spec) in specs.iter().enumerate() {
        let name = compiler.set.names[index].clone();
        let mut rejected = Vec::new();
        check::rule(spec, &mut |key, problem, allowed| rejected.push((key, problem, allowed)));
        let sound = rejected.is_empty();
        for (key, problem, allowed) in rejected {
            compiler.errors.push(RuleError::Rule { index, name: name.to_string(), key, problem, allowed });
        }
        match spec {
            RuleSpec::Threshold(rule) => compiler.threshold(index, rule),
            RuleSpec::Anomaly(rule) if sound => compiler.anomaly(index, rule, rules, library),
            RuleSpec::Aggregate(rule) => compiler.aggregate(index, rule, sound),
            RuleSpec::Filter(rule) => compiler.filter(index, rule),
            RuleSpec::Spectrum(rule) if sound => compiler.spectrum(index, rule),
            _ => {}
        }
    }
    let mut set = compiler.set;
    check::limits(&rules.limits, &mut compiler.errors);
    set.watched.sort_unstable();
    set.watched.dedup();
    if compiler.errors.is_empty() { Ok(set) } else { Err(compiler.errors) }
}

/// A number for rules that behave the same.
fn identity_of(parts: &[&str]) -> u64 {
    fnv1a(parts.join("\u{0}").as_bytes())
}

fn ms(duration: Duration) -> i64 {
    duration.as_millis() as i64
}

struct Compiler {
    set: RuleSet,
    schema: Schema,
    errors: Vec<RuleError>,
}

/// What alerts of several types of rules have in common.
struct AlertParts<'a> {
    subject: Subject,
    name: Name,
    condition: Name,
    limit: Option<f64>,
    unit: Option<Name>,
    severity: Severity,
    tags: &'a Texts,
    hold: Duration,
    cooldown: Duration,
    rate: Option<RateLimit>,
    actions: &'a [Action],
}

impl Compiler {
    fn reject(&mut self, index: usize, key: &'static str, problem: impl Into<String>, allowed: impl Into<String>) {
        let name = self.set.names[index].to_string();
        self.errors.push(RuleError::Rule { index, name, key, problem: problem.into(), allowed: allowed.into() });
    }

    fn scope(&mut self, scope: Scope) -> u16 {
        let at = self.set.scopes.iter().position(|known| *known == scope).unwrap_or_else(|| {
            self.set.scopes.push(scope);
            self.set.scopes.len() - 1
        });
        at as u16
    }

    fn expr(&mut self, index: usize, key: &'static str, text: &str) -> Option<Expr> {
        match Expr::compile(text, &self.schema) {
            Ok(expr) => Some(expr),
            Err(error) => {
                let problem = format!("in {text:?} {} at character {}", error.problem, error.offset + 1);
                self.reject(index, key, problem, error.allowed);
                None
            }
        }
    }

    /// Registers a condition whose streams are kept in a scope.
    fn condition(&mut self, expr: Expr, scope: u16) -> u32 {
        let mut inputs = Vec::new();
        for (slot, stream) in expr.streams().iter().enumerate() {
            let input = Input { stream: stream.clone(), unit: expr.unit_of(slot).map(Name::from) };
            let at = self.set.inputs.iter().position(|known| *known == input).unwrap_or_else(|| {
                self.set.inputs.push(input);
                self.set.inputs.len() - 1
            });
            inputs.push(at as u32);
            self.set.watched.push((scope, at as u32));
        }
        self.set.conditions.push(Condition { expr, inputs: inputs.into() });
        self.set.conditions.len() as u32 - 1
    }

    fn alert(&mut self, index: usize, parts: AlertParts<'_>, identity: u64) -> u32 {
        let effects: Vec<Effect> = parts.actions.iter().filter_map(Effect::of).collect();
        let on_clear: Vec<Effect> = effects.iter().filter(|effect| effect.on_clear()).cloned().collect();
        let shared = |list: Vec<Effect>| (!list.is_empty()).then(|| Arc::from(list));
        self.set.alerts.push(AlertRule {
            rule: index as u16,
            subject: parts.subject,
            name: parts.name,
            condition: parts.condition,
            limit: parts.limit,
            unit: parts.unit,
            severity: parts.severity.as_str().into(),
            tags: parts.tags.0.iter().map(|(n, v)| (n.as_str().into(), v.as_str().into())).collect(),
            hold_ms: ms(parts.hold),
            cooldown_ms: ms(parts.cooldown),
            rate: parts.rate.map(|rate| (rate.count, ms(rate.window))),
            effects: shared(effects),
            clear_effects: shared(on_clear),
            identity,
        });
        self.set.alerts.len() as u32 - 1
    }

    fn threshold(&mut self, index: usize, rule: &ThresholdRule) {
        let fire = self.expr(index, "condition", rule.condition.text());
        let clear = rule.clear.as_ref().map(|clear| self.expr(index, "clear", clear.text()));
        let (Some(fire), Some(clear)) = (fire, clear.map_or(Some(None), |clear| clear.map(Some))) else { return };
        let names_streams = !fire.streams().is_empty() || clear.as_ref().is_some_and(|c| !c.streams().is_empty());
        if names_streams && !rule.streams.is_empty() {
            let problem = "is given, but the condition names its streams itself";
            self.reject(index, "streams", problem, "streams, or a condition that names them");
            return;
        }
        let scope = self.scope(Scope::of(&rule.group_by));
        let mut streams = fire.streams().iter().chain(clear.iter().flat_map(|clear| clear.streams()));
        if let (Scope::Tag(tag), Some(stream)) =
            (Scope::of(&rule.group_by), streams.find(|stream| check::is_derived(&self.set.rules, stream)))
        {
            let problem = format!("is by the attribute {tag}, which {stream}, being derived, does not have");
            self.reject(
                index,
                "group_by",
                problem,
                "device, or site; a window by a tag has the tag's value as its device",
            );
            return;
        }
        let actions = actions(&rule.action, &rule.actions);
        let (test, limit, limit_unit) = match comparison(&fire, clear.as_ref(), scope) {
            Some((stream, unit, fire, clear)) => {
                let test = Test::Limit { on: LimitOn::Stream(stream), unit: unit.clone(), fire, clear };
                (test, Some(fire.limit), unit)
            }
            None => {
                let condition = self.condition(fire.clone(), scope);
                let clear = clear.map(|clear| self.condition(clear, scope));
                let limit = fire.as_comparison().map(|c| (c.limit, fire.unit_of(c.slot).map(Name::from)));
                let (limit, unit) = limit.map_or((None, None), |(limit, unit)| (Some(limit), unit));
                (Test::Condition { condition, clear, scope }, limit, unit)
            }
        };
        let verdicts = verdicts(actions);
        let raises = actions
            .iter()
            .any(|action| matches!(action, Action::LocalAlert | Action::FlagAndUpload) || Effect::of(action).is_some());
        let name = self.set.names[index].clone();
        let number = self.set.thresholds.len() as u32;
        let units: Vec<&str> = (0..fire.streams().len()).map(|slot| fire.unit_of(slot).unwrap_or("-")).collect();
        let identity = identity_of(&[&name, &self.set.identities[index].to_string(), &units.join(",")]);
        self.set.identities[index] = identity;
        let alert = raises.then(|| {
            let parts = AlertParts {
                subject: Subject::Threshold(number),
                name,
                condition: clipped(rule.condition.text()),
                limit,
                unit: limit_unit,
                severity: rule.severity,
                tags: &rule.tags,
                hold: rule.hold,
                cooldown: rule.cooldown,
                rate: rule.rate_limit,
                actions,
            };
            self.alert(index, parts, identity)
        });
        let streams = Patterns::new(&rule.streams);
        self.set.thresholds.push(Threshold { rule: index as u16, alert, test, streams, verdicts });
    }

    fn aggregate(&mut self, index: usize, rule: &AggregateRule, sound: bool) {
        let scope = self.scope(Scope::of(&rule.by.0));
        let filter = rule.filter.as_ref().map(|filter| self.expr(index, "where", filter.text()));
        let Some(filter) = filter.map_or(Some(None), |filter| filter.map(Some)) else { return };
        if !sound {
            return;
        }
        let window = match check::window(rule) {
            Ok(window) => window,
            Err(problem) => return self.reject(index, "lateness", problem, "lengths of windows that fit each other"),
        };
        let filter = filter.map(|filter| self.condition(filter, scope));
        let identity = self.name_identity(index);
        self.set.aggregates.push(Aggregate {
            rule: index as u16,
            scope,
            streams: Patterns::new(&rule.streams),
            filter,
            window,
            fields: rule.fields.iter().map(|field| (*field, Name::from(field.as_str()))).collect(),
            length: rule.interval.map(|interval| interval.as_millis().to_string().into()),
            late: rule.late.as_deref().map(Name::from),
            identity,
        });
    }

    fn filter(&mut self, index: usize, rule: &FilterRule) {
        let filter = rule.filter.as_ref().map(|filter| self.expr(index, "where", filter.text()));
        let Some(filter) = filter.map_or(Some(None), |filter| filter.map(Some)) else { return };
        let filter = filter.map(|filter| self.condition(filter, 0));
        let identity = self.name_identity(index);
        self.set.filters.push(Filter {
            rule: index as u16,
            streams: Patterns::new(&rule.streams),
            filter,
            deduplicate_ms: rule.deduplicate.map(ms),
            deadband: rule.deadband.clone(),
            max_interval_ms: rule.max_interval.map(ms),
            sample: rule.sample,
            identity,
        });
    }

    fn spectrum(&mut self, index: usize, rule: &SpectrumRule) {
        let Ok(analyzer) = check::analyzer(rule) else { return };
        let identity = self.name_identity(index);
        let number = self.set.spectra.len() as u32;
        let streams = Patterns::new(&rule.streams);
        self.set.spectra.push(super::Spectrum { rule: index as u16, streams, analyzer, identity });
        for alarm in &rule.alarms {
            let levels = [(alarm.warning, Severity::Warning), (alarm.critical, Severity::Critical)];
            for (limit, severity) in levels {
                if let Some(limit) = limit {
                    self.alarm(index, number, alarm, limit, severity);
                }
            }
        }
    }

    fn alarm(&mut self, index: usize, spectrum: u32, alarm: &AlarmSpec, limit: f64, severity: Severity) {
        let name = format!("{}.{}.{}", self.set.names[index], alarm.field, severity.as_str());
        let number = self.set.thresholds.len() as u32;
        let parts = AlertParts {
            subject: Subject::Threshold(number),
            condition: clipped(&format!("{} > {limit}", alarm.field)),
            limit: Some(limit),
            unit: None,
            severity,
            tags: &Texts::default(),
            hold: Duration::default(),
            cooldown: Duration::default(),
            rate: None,
            actions: &[],
            name: clipped(&name),
        };
        let identity = identity_of(&[&name, &self.set.identities[index].to_string()]);
        let alert = self.alert(index, parts, identity);
        let fire = Predicate { operator: grey_expr::Operator::Greater, limit };
        let on = LimitOn::Spectra { spectrum, suffix: format!(".{}", alarm.field) };
        self.set.thresholds.push(Threshold {
            rule: index as u16,
            alert: Some(alert),
            test: Test::Limit { on, unit: None, fire, clear: None },
            streams: Patterns::default(),
            verdicts: Verdicts::default(),
        });
    }

    fn anomaly(&mut self, index: usize, rule: &AnomalyRule, rules: &Rules, library: &dyn Library) {
        let actions = actions(&rule.action, &rule.actions);
        let verdicts = verdicts(actions);
        let identity = self.name_identity(index);
        let by_model = rule.model.as_deref();
        let subject = match by_model {
            Some(_) => Subject::Model(self.set.models.len() as u32),
            None => Subject::Detector(self.set.detectors.len() as u32),
        };
        let detector = rule.detector.unwrap_or_default();
        let parts = AlertParts {
            subject,
            name: self.set.names[index].clone(),
            condition: clipped(by_model.unwrap_or(detector.as_str())),
            limit: rule.score,
            unit: None,
            severity: rule.severity,
            tags: &rule.tags,
            hold: Duration::default(),
            cooldown: rule.cooldown,
            rate: rule.rate_limit,
            actions,
        };
        let alert = self.alert(index, parts, identity);
        let Some(name) = by_model else {
            let method = check::method(detector);
            let threshold = rule.score.unwrap_or_else(|| grey_detect::Detector::threshold(method));
            let streams = Patterns::new(&rule.streams);
            let found =
                super::DetectorRule { rule: index as u16, alert, streams, method, threshold, verdicts, identity };
            self.set.detectors.push(found);
            return;
        };
        let mut model = super::models::load(index, name, rules, library);
        // Another set of versions is another rule: it begins anew.
        let versions: Vec<&str> = model.candidates.iter().map(|c| c.version.as_str()).collect();
        model.identity = identity_of(&[&identity.to_string(), &versions.join(",")]);
        (model.alert, model.score, model.verdicts) = (alert, rule.score, verdicts);
        self.set.alerts[alert as usize].identity = model.identity;
        self.set.identities[index] = model.identity;
        self.set.models.push(model);
    }

    fn name_identity(&mut self, index: usize) -> u64 {
        let identity = identity_of(&[&self.set.names[index], &self.set.identities[index].to_string()]);
        self.set.identities[index] = identity;
        identity
    }
}

/// The list, or the one action where there is no list.
pub(super) fn actions<'a>(one: &'a Action, list: &'a [Action]) -> &'a [Action] {
    if list.is_empty() { std::slice::from_ref(one) } else { list }
}

fn verdicts(actions: &[Action]) -> Verdicts {
    let mut verdicts = Verdicts::default();
    for action in actions {
        match action {
            Action::FlagAndUpload => verdicts.flag = true,
            Action::Drop => verdicts.drop = true,
            Action::Sample(sample) => verdicts.sample = Some(*sample),
            Action::SetLane(lane) => verdicts.lane = Some(*lane),
            _ => {}
        }
    }
    verdicts
}

type LimitParts = (Name, Option<Name>, Predicate, Option<Predicate>);

/// A device's one stream held against constants in one unit: those rules are kept apart, since there may be many.
fn comparison(fire: &Expr, clear: Option<&Expr>, scope: u16) -> Option<LimitParts> {
    if scope != 0 {
        return None;
    }
    let part = |expr: &Expr| {
        let Comparison { slot, operator, limit } = expr.as_comparison().filter(|_| !expr.needs_event())?;
        let stream = expr.streams().get(slot)?.clone();
        Some((stream, expr.unit_of(slot).map(Name::from), Predicate { operator, limit }))
    };
    let (stream, own, predicate) = part(fire)?;
    let Some(clear) = clear else { return Some((stream, own, predicate, None)) };
    let (other, clear_unit, mut clear) = part(clear)?;
    if other != stream {
        return None;
    }
    if let (Some(own), Some(foreign)) = (&own, &clear_unit) {
        clear.limit = unit(foreign)?.conversion_to(unit(own)?)?.apply(clear.limit);
    }
    Some((stream, own.or(clear_unit), predicate, Some(clear)))
}

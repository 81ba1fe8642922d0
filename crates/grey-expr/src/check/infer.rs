//! Which unit each slot's values are wanted in.
//!
//! Operands that are compared, added or chosen between measure the same thing:
//! they form a group. The schema's unit of a slot stands. Other slots take the
//! unit of the first quantity of their group, in the order of the text, direct
//! comparisons before those of a change (`delta(t) > 5 K` does not make kelvins of
//! a stream that is compared with °C elsewhere); then that of a slot of their group.

use super::{Checker, children};
use crate::node::NamedUnit;
use crate::parse::{Arithmetic, Ast, Function, Kind};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    Slot(usize),
    /// The event's own value.
    Value,
}

#[derive(Default)]
struct Group {
    /// The operand, and whether it is the value itself, not a change of it.
    members: Vec<(Member, bool)>,
    /// The first quantity's unit.
    unit: Option<NamedUnit>,
}

impl Checker<'_> {
    pub(super) fn infer(&mut self, ast: &Ast) {
        let mut groups = Vec::new();
        self.groups(ast, &mut groups);
        for direct in [true, false] {
            for group in &groups {
                let Some(unit) = &group.unit else { continue };
                for (member, is_direct) in &group.members {
                    if *is_direct == direct {
                        self.give(*member, unit);
                    }
                }
            }
        }
        // A unit spreads along comparisons of streams with streams; each round gives at least one.
        loop {
            let mut given = false;
            for group in &groups {
                let Some(unit) = group.members.iter().find_map(|(m, _)| self.has(*m)) else { continue };
                for (member, _) in &group.members {
                    given |= self.give(*member, &unit);
                }
            }
            if !given {
                return;
            }
        }
    }

    fn has(&self, member: Member) -> Option<NamedUnit> {
        match member {
            Member::Slot(slot) => self.slots.get(slot)?.unit.clone(),
            Member::Value => self.value_unit.clone(),
        }
    }

    /// Whether the operand had no unit before.
    fn give(&mut self, member: Member, unit: &NamedUnit) -> bool {
        let place = match member {
            Member::Slot(slot) => self.slots.get_mut(slot).map(|s| &mut s.unit),
            Member::Value => Some(&mut self.value_unit),
        };
        match place {
            Some(place @ None) => {
                *place = Some(unit.clone());
                true
            }
            _ => false,
        }
    }

    /// The groups of a node and of all below it, outer ones first.
    fn groups(&self, ast: &Ast, groups: &mut Vec<Group>) {
        let joins = match &ast.kind {
            Kind::Compare(..) | Kind::In(..) | Kind::If(..) => true,
            Kind::Arithmetic(op, ..) => matches!(op, Arithmetic::Add | Arithmetic::Subtract | Arithmetic::Remainder),
            Kind::Call(function, _) => matches!(function, Function::Min | Function::Max),
            _ => false,
        };
        let below = children(ast);
        if joins {
            let mut group = Group::default();
            let skipped = usize::from(matches!(ast.kind, Kind::If(..)));
            below.iter().skip(skipped).for_each(|child| self.linear(child, true, &mut group));
            groups.push(group);
        }
        below.into_iter().for_each(|child| self.groups(child, groups));
    }

    /// The operands that have the unit of the whole.
    fn linear(&self, ast: &Ast, direct: bool, group: &mut Group) {
        match &ast.kind {
            Kind::Number(quantity) => {
                if let (None, Some((unit, name))) = (&group.unit, &quantity.unit) {
                    group.unit = Some(NamedUnit { unit: *unit, name: name.clone() });
                }
            }
            Kind::Stream(name) => {
                if let Some(slot) = self.slots.iter().position(|s| s.name == *name) {
                    group.members.push((Member::Slot(slot), direct));
                }
            }
            Kind::Value => group.members.push((Member::Value, direct)),
            Kind::Negate(of) => self.linear(of, direct, group),
            Kind::Arithmetic(op, a, b) => {
                let plain = |side: &Ast| matches!(&side.kind, Kind::Number(quantity) if quantity.unit.is_none());
                let sum = matches!(op, Arithmetic::Add | Arithmetic::Subtract | Arithmetic::Remainder);
                // What a difference is compared with is no value of either side.
                let direct = direct && *op != Arithmetic::Subtract;
                if sum || plain(b) {
                    self.linear(a, direct, group);
                }
                if sum || *op == Arithmetic::Multiply && plain(a) {
                    self.linear(b, direct, group);
                }
            }
            Kind::Call(function, args) => {
                let direct = direct && *function != Function::Delta;
                let keeps = !matches!(function, Function::Age | Function::Sqrt | Function::Double | Function::Size);
                if keeps {
                    args.iter().for_each(|arg| self.linear(arg, direct, group));
                }
            }
            Kind::If(_, a, b) => {
                self.linear(a, direct, group);
                self.linear(b, direct, group);
            }
            Kind::List(items) => items.iter().for_each(|item| self.linear(item, direct, group)),
            _ => {}
        }
    }
}

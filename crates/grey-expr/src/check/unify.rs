//! Bringing operands to one unit.

use super::{Number, Tag, fail};
use crate::error::ExprError;
use crate::node::{NamedUnit, Num};
use crate::parse::Arithmetic;

/// All operands in the unit of one of them, and that unit: of the first that varies and has one, else of the
/// first that has one. A plain constant is taken to be in it.
pub(super) fn unify(numbers: Vec<Number>) -> Result<(Vec<Num>, Tag), ExprError> {
    let in_unit = |n: &Number| matches!(n.tag, Tag::Of { .. });
    let target =
        numbers.iter().find(|n| in_unit(n) && !n.is_constant()).or_else(|| numbers.iter().find(|n| in_unit(n)));
    let Some((unit, constant, target_at)) = target.and_then(|t| match &t.tag {
        Tag::Of { unit, .. } => Some((unit.clone(), t.is_constant(), t.at)),
        _ => None,
    }) else {
        let compound = numbers.iter().any(|n| n.tag == Tag::Compound);
        return Ok((numbers.into_iter().map(|n| n.num).collect(), if compound { Tag::Compound } else { Tag::Plain }));
    };
    let difference = numbers.iter().any(|n| matches!(n.tag, Tag::Of { difference: true, .. }) && !n.is_constant());
    let mut nums = Vec::with_capacity(numbers.len());
    for number in numbers {
        let varies = !number.is_constant();
        let mismatch = match &number.tag {
            Tag::Compound => true,
            // Nothing says what the varying side is measured in.
            Tag::Plain => constant && varies,
            Tag::Of { .. } => false,
        };
        if mismatch {
            let at = if constant { target_at } else { number.at };
            return fail(
                at,
                format!("a value whose unit is not known does not compare with {}", unit.name),
                "numbers without a unit on both sides, or a stream on one",
            );
        }
        nums.push(convert(number, &unit, difference)?);
    }
    Ok((nums, Tag::Of { unit, difference }))
}

/// A number in another unit.
fn convert(number: Number, to: &NamedUnit, difference: bool) -> Result<Num, ExprError> {
    let Tag::Of { unit: from, .. } = &number.tag else { return Ok(number.num) };
    let Some(conversion) = from.unit.conversion_to(to.unit) else {
        return fail(
            number.at,
            format!(
                "{} measures {}, which does not compare with {} in {}",
                from.name,
                from.unit.dimension(),
                to.unit.dimension(),
                to.name
            ),
            format!("a unit of {} such as {}", to.unit.dimension(), to.name),
        );
    };
    let conversion = if difference { conversion.of_difference() } else { conversion };
    Ok(match number.num {
        num if conversion == crate::unit::Conversion::Same => num,
        Num::Const(value) => {
            let converted = conversion.apply(value);
            if !converted.is_finite() {
                return fail(
                    number.at,
                    format!("{value} {} is too large in {}", from.name, to.name),
                    "a smaller number",
                );
            }
            Num::Const(converted)
        }
        num => Num::Convert(conversion, Box::new(num)),
    })
}

/// The sides of a sum or difference, in one unit, and the unit of the result.
///
/// Of temperatures the offset matters: the difference of two is no temperature,
/// and a constant that is added or subtracted is a shift (`t - 5 K`, `t + 5°C`).
pub(super) fn sum(op: Arithmetic, left: Number, right: Number) -> Result<(Num, Num, Tag), ExprError> {
    let difference_of = |n: &Number| matches!(n.tag, Tag::Of { difference: true, .. });
    let (constants, differences) =
        ((left.is_constant(), right.is_constant()), (difference_of(&left), difference_of(&right)));
    let offset = [&left, &right].into_iter().any(|n| matches!(&n.tag, Tag::Of { unit, .. } if unit.unit.has_offset()));
    let at = right.at;
    if !offset {
        let (nums, tag) = unify(vec![left, right])?;
        let [a, b] = super::two(nums, at)?;
        return Ok((a, b, tag));
    }
    let (a, b, unit) = match constants {
        (false, true) => shifted(left, right)?,
        (true, false) if op == Arithmetic::Add => {
            let (b, a, unit) = shifted(right, left)?;
            (a, b, unit)
        }
        _ => {
            let (nums, tag) = unify(vec![left, right])?;
            let [a, b] = super::two(nums, at)?;
            (a, b, tag)
        }
    };
    let difference = match (op, constants) {
        (_, (false, true)) => differences.0,
        (Arithmetic::Add, (true, false)) => differences.1,
        (Arithmetic::Subtract, _) => differences.0 == differences.1,
        _ => differences.0 && differences.1,
    };
    let tag = match unit {
        Tag::Of { unit, .. } => Tag::Of { unit, difference },
        other => other,
    };
    Ok((a, b, tag))
}

/// A varying side and a constant shift, in the varying side's unit.
fn shifted(varying: Number, constant: Number) -> Result<(Num, Num, Tag), ExprError> {
    let at = constant.at;
    match &varying.tag {
        Tag::Of { unit, .. } => {
            let unit = unit.clone();
            let constant = convert(constant, &unit, true)?;
            Ok((varying.num, constant, Tag::Of { unit, difference: false }))
        }
        _ => {
            let (nums, tag) = unify(vec![varying, constant])?;
            let [a, b] = super::two(nums, at)?;
            Ok((a, b, tag))
        }
    }
}

/// The sides of a product or quotient. Like units cancel; a pure number scales.
pub(super) fn product(op: Arithmetic, left: Number, right: Number) -> (Num, Num, Tag) {
    let divides = op == Arithmetic::Divide;
    let tag = match (&left.tag, &right.tag) {
        (Tag::Plain, Tag::Plain) => Tag::Plain,
        (tag @ Tag::Of { .. }, Tag::Plain) => tag.clone(),
        (Tag::Plain, tag @ Tag::Of { .. }) if !divides => tag.clone(),
        (Tag::Of { unit: a, .. }, Tag::Of { unit: b, .. }) if divides && a.unit.dimension() == b.unit.dimension() => {
            let unit = a.clone();
            let right_num = right.num.clone();
            if let Ok(b) = convert(right, &unit, false) {
                return (left.num, b, Tag::Plain);
            }
            return (left.num, right_num, Tag::Compound);
        }
        _ => Tag::Compound,
    };
    (left.num, right.num, tag)
}

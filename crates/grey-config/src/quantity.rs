//! Numbers with a unit: durations, sizes, bandwidths, cores.

use std::fmt;
use std::str::FromStr;

/// Why a text is not the quantity that it should be. The message completes `"…" `.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Nothing is written.
    #[error("is empty")]
    Empty,
    /// A number without a unit.
    #[error("has no unit: write for example \"{0}\"")]
    NoUnit(String),
    /// A unit that is not known.
    #[error("has the unknown unit \"{0}\"")]
    Unit(String),
    /// Something else than a number before the unit.
    #[error("does not start with a number")]
    Number,
    /// More than the type can hold.
    #[error("is too large")]
    TooLarge,
    /// Parts of a duration out of order or repeated.
    #[error("must name its units once, from large to small")]
    Order,
    /// A fraction of the smallest unit.
    #[error("is not a whole number of {0}")]
    Fraction(&'static str),
}

/// A decimal number split from the text behind it: value = digits / 10^scale.
struct Decimal {
    digits: u128,
    scale: u32,
}

impl Decimal {
    fn split(text: &str) -> Result<(Self, &str), QuantityError> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
        let (number, rest) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let plain = |t: &str| t.chars().filter(|c| *c != '_').collect::<String>();
        let (whole, fraction) = (plain(whole), plain(fraction));
        if whole.is_empty() || number.ends_with(['.', '_']) || fraction.contains('.') {
            return Err(QuantityError::Number);
        }
        if whole.len() + fraction.len() > 24 {
            return Err(QuantityError::TooLarge);
        }
        let digits = format!("{whole}{fraction}").parse().map_err(|_| QuantityError::TooLarge)?;
        Ok((Self { digits, scale: fraction.len() as u32 }, rest.trim_start()))
    }

    /// The number times `factor` as a whole number of `unit`s.
    fn times(&self, factor: u64, unit: &'static str) -> Result<u64, QuantityError> {
        let divisor = 10_u128.pow(self.scale);
        let product = self.digits.checked_mul(u128::from(factor)).ok_or(QuantityError::TooLarge)?;
        if product % divisor != 0 {
            return Err(QuantityError::Fraction(unit));
        }
        u64::try_from(product / divisor).map_err(|_| QuantityError::TooLarge)
    }
}

/// A length of time in whole milliseconds: `100ms`, `30s`, `5m`, `24h`, `7d`,
/// `2w`, `7y` (365 days), or several of them as in `1h30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Duration(u64);

/// Units of time, largest first.
const TIME_UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

impl Duration {
    /// Longest length that can be written: 1,000 years, so that sums with a time never overflow.
    pub const MAX: Self = Self(1_000 * 365 * 86_400_000);

    /// So many milliseconds.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }

    /// So many seconds.
    pub const fn from_secs(s: u64) -> Self {
        Self(s * 1_000)
    }

    /// The length in milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0
    }
}

impl From<Duration> for std::time::Duration {
    fn from(length: Duration) -> Self {
        Self::from_millis(length.0)
    }
}

impl FromStr for Duration {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(QuantityError::Empty);
        }
        let mut total = 0_u64;
        let mut allowed = &TIME_UNITS[..];
        while !rest.is_empty() {
            let (number, behind) = Decimal::split(rest)?;
            let unit = &behind[..behind.find(|c: char| !c.is_alphabetic()).unwrap_or(behind.len())];
            if unit.is_empty() {
                return Err(QuantityError::NoUnit(format!("{}s", text.trim())));
            }
            if !TIME_UNITS.iter().any(|(name, _)| *name == unit) {
                return Err(QuantityError::Unit(unit.into()));
            }
            let at = allowed.iter().position(|(name, _)| *name == unit).ok_or(QuantityError::Order)?;
            let part = number.times(allowed[at].1, "milliseconds")?;
            total = total.checked_add(part).ok_or(QuantityError::TooLarge)?;
            allowed = &allowed[at + 1..];
            rest = behind[unit.len()..].trim_start();
        }
        if total > Self::MAX.0 {
            return Err(QuantityError::TooLarge);
        }
        Ok(Self(total))
    }
}

impl fmt::Display for Duration {
    /// The largest unit that divides the length without a rest, so that `24h` prints as `1d`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, size) =
            TIME_UNITS.into_iter().find(|(_, s)| self.0 > 0 && self.0.is_multiple_of(*s)).unwrap_or(("s", 1_000));
        write!(f, "{}{unit}", self.0 / size)
    }
}

/// An amount of memory or storage in bytes. `kb`, `mb`, `gb`, `tb` are powers of 1000 and
/// `kib`, `mib`, `gib`, `tib` powers of 1024, in upper or lower case; a bare number is bytes.
/// Decimal is what disks are sold by, and as a limit it is the smaller reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Size(u64);

const SIZE_UNITS: [(&str, u64); 9] = [
    ("TB", 1_000_000_000_000),
    ("TiB", 1 << 40),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("KB", 1_000),
    ("KiB", 1 << 10),
    ("B", 1),
];

impl Size {
    /// So many bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// So many bytes times 1,000,000.
    pub const fn from_mb(mb: u64) -> Self {
        Self(mb * 1_000_000)
    }

    /// So many bytes times 1,048,576.
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    /// The amount in bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(QuantityError::Empty);
        }
        let (number, unit) = Decimal::split(text)?;
        let factor = match SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) {
            Some((_, factor)) => *factor,
            None if unit.is_empty() => 1,
            None => return Err(QuantityError::Unit(unit.into())),
        };
        number.times(factor, "bytes").map(Self)
    }
}

impl fmt::Display for Size {
    /// The unit that writes the amount with the fewest digits and exactly.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = SIZE_UNITS.into_iter().filter(|(_, size)| self.0.is_multiple_of(*size));
        let (unit, size) = exact.min_by_key(|(_, size)| self.0 / size).filter(|_| self.0 > 0).unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / size)
    }
}

/// A data rate in bits a second: `64Kbps`, `100Mbps`, `10Gbps`; powers of 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bandwidth(u64);

const RATE_UNITS: [(&str, u64); 5] =
    [("Tbps", 1_000_000_000_000), ("Gbps", 1_000_000_000), ("Mbps", 1_000_000), ("Kbps", 1_000), ("bps", 1)];

impl Bandwidth {
    /// The rate in bits a second.
    pub const fn bits_per_second(self) -> u64 {
        self.0
    }
}

impl FromStr for Bandwidth {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(QuantityError::Empty);
        }
        let (number, unit) = Decimal::split(text)?;
        if unit.is_empty() {
            return Err(QuantityError::NoUnit(format!("{text}Mbps")));
        }
        let factor = RATE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
        let (_, factor) = factor.ok_or_else(|| QuantityError::Unit(unit.into()))?;
        number.times(*factor, "bits a second").map(Self)
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, size) =
            RATE_UNITS.into_iter().find(|(_, s)| self.0 > 0 && self.0.is_multiple_of(*s)).unwrap_or(("bps", 1));
        write!(f, "{}{unit}", self.0 / size)
    }
}

/// Processor cores: `4 cores`, `1 core` or `4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cores(u32);

impl Cores {
    /// How many.
    pub const fn count(self) -> u32 {
        self.0
    }
}

impl FromStr for Cores {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (number, unit) = Decimal::split(text.trim())?;
        if !matches!(unit, "" | "core" | "cores") {
            return Err(QuantityError::Unit(unit.into()));
        }
        match u32::try_from(number.times(1, "cores")?) {
            Ok(0) => Err(QuantityError::Number),
            Ok(count @ 1..=4096) => Ok(Self(count)),
            _ => Err(QuantityError::TooLarge),
        }
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} core{}", self.0, if self.0 == 1 { "" } else { "s" })
    }
}

/// What a disk is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// Solid state on SATA or unspecified.
    Ssd,
    /// Solid state on PCI Express.
    Nvme,
    /// A rotating disk.
    Hdd,
    /// A memory card.
    Sd,
    /// Soldered flash.
    Emmc,
}

const MEDIA: [(&str, Medium); 5] =
    [("SSD", Medium::Ssd), ("NVMe", Medium::Nvme), ("HDD", Medium::Hdd), ("SD", Medium::Sd), ("eMMC", Medium::Emmc)];

/// The storage of a machine: `128GB SSD`, or `128GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Storage {
    /// How much.
    pub size: Size,
    /// What kind, if it is said.
    pub medium: Option<Medium>,
}

impl FromStr for Storage {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let text = text.trim();
        let (_, unit) = Decimal::split(text)?;
        let (size, word) = unit.split_once(char::is_whitespace).unwrap_or((unit, ""));
        if size.is_empty() {
            return Err(QuantityError::NoUnit(format!("{text}GB")));
        }
        let number = text[..text.len() - unit.len()].trim_end();
        let medium = match word.trim() {
            "" => None,
            word => {
                let known = MEDIA.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
                Some(known.ok_or_else(|| QuantityError::Unit(word.into()))?.1)
            }
        };
        Ok(Self { size: format!("{number}{size}").parse()?, medium })
    }
}

impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.size.fmt(f)?;
        match self.medium.and_then(|m| MEDIA.iter().find(|(_, medium)| *medium == m)) {
            Some((name, _)) => write!(f, " {name}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn duration(text: &str) -> Result<u64, String> {
        text.parse::<Duration>().map(Duration::as_millis).map_err(|e| e.to_string())
    }

    fn size(text: &str) -> Result<u64, String> {
        text.parse::<Size>().map(Size::bytes).map_err(|e| e.to_string())
    }

    #[test]
    fn durations() {
        assert_eq!(duration("100ms"), Ok(100));
        assert_eq!(duration("30s"), Ok(30_000));
        assert_eq!(duration("5m"), Ok(300_000));
        assert_eq!(duration("24h"), Ok(86_400_000));
        assert_eq!(duration("7d"), Ok(604_800_000));
        assert_eq!(duration("7y"), Ok(7 * 365 * 86_400_000));
        assert_eq!(duration("1h30m"), Ok(5_400_000));
        assert_eq!(duration("1.5s"), Ok(1_500));
        assert_eq!(duration(" 10 s "), Ok(10_000));
        assert_eq!(duration("0s"), Ok(0));
        for (text, why) in [
            ("30", "no unit: write for example \"30s\""),
            ("", "empty"),
            ("s", "number"),
            ("-5s", "number"),
            ("5 minutes", "unknown unit \"minutes\""),
            ("5M", "unknown unit"),
            ("30m1h", "from large to small"),
            ("1s1s", "from large to small"),
            ("0.5ms", "whole number of milliseconds"),
            ("99999999999999y", "too large"),
            ("2000y", "too large"),
            ("99999999999999999999999999999s", "too large"),
            ("1..5s", "number"),
            ("5s!", "number"),
        ] {
            let error = duration(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn sizes_are_decimal_unless_they_say_i() {
        assert_eq!(size("128mb"), Ok(128_000_000));
        assert_eq!(size("1gb"), Ok(1_000_000_000));
        assert_eq!(size("128GB"), Ok(128_000_000_000));
        assert_eq!(size("8GB"), Ok(8_000_000_000));
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("1.5GB"), Ok(1_500_000_000));
        assert_eq!(size("4096"), Ok(4096));
        assert!(size("1.5B").unwrap_err().contains("whole number of bytes"));
        assert!(size("10 bananas").unwrap_err().contains("unknown unit \"bananas\""));
        assert!(size("99999999TB").unwrap_err().contains("too large"));
        assert_eq!(Size::from_mib(64).to_string(), "64MiB");
        assert_eq!(Size::from_mb(128_000).to_string(), "128GB");
        assert_eq!(Size::from_bytes(0).to_string(), "0B");
    }

    #[test]
    fn hardware_and_rates() {
        assert_eq!("10Gbps".parse::<Bandwidth>().unwrap().bits_per_second(), 10_000_000_000);
        assert_eq!("50 Kbps".parse::<Bandwidth>().unwrap().to_string(), "50Kbps");
        assert!("10".parse::<Bandwidth>().is_err() && "10GB".parse::<Bandwidth>().is_err());
        assert_eq!("4 cores".parse::<Cores>().unwrap().count(), 4);
        assert!(
            "0 cores".parse::<Cores>().is_err()
                && "many".parse::<Cores>().is_err()
                && "1.5 cores".parse::<Cores>().is_err()
        );
        let storage: Storage = "128GB SSD".parse().unwrap();
        assert_eq!((storage.size.bytes(), storage.medium), (128_000_000_000, Some(Medium::Ssd)));
        assert_eq!(storage.to_string(), "128GB SSD");
        assert_eq!("64 GB".parse::<Storage>().unwrap().to_string(), "64GB");
        for bad in ["SSD", "128", "128GB floppy", "128 SSD", "", "128GB SSD SSD"] {
            assert!(bad.parse::<Storage>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn printing_loses_nothing(n in 0..=Duration::MAX.0, bytes: u64, bits: u64) {
            prop_assert_eq!(Duration(n).to_string().parse(), Ok(Duration(n)));
            prop_assert_eq!(Size(bytes).to_string().parse(), Ok(Size(bytes)));
            prop_assert_eq!(Bandwidth(bits).to_string().parse(), Ok(Bandwidth(bits)));
        }

        #[test]
        fn hostile_text_never_panics(text in "[0-9a-zA-Z._ °ß-]{0,40}") {
            let _ = (text.parse::<Duration>(), text.parse::<Size>(), text.parse::<Bandwidth>());
            let _ = (text.parse::<Cores>(), text.parse::<Storage>());
        }
    }
}

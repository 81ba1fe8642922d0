//! The known units. Ratios are those of the SI brochure and of NIST SP 811, appendix B.

/// Symbol, dimension, numerator and denominator of the ratio to the dimension's base, whether SI prefixes apply.
type Row = (&'static str, &'static str, f64, f64, bool);

/// Every unit but the temperatures.
#[rustfmt::skip]
pub(super) const UNITS: &[Row] = &[
    // Pressure, in Pa. The pound-force per square inch is exact by its parts.
    ("Pa", "pressure", 1.0, 1.0, true),
    ("bar", "pressure", 1e5, 1.0, true),
    ("psi", "pressure", 44_482_216_152_605.0, 6_451_600_000.0, false),
    ("atm", "pressure", 101_325.0, 1.0, false),
    ("Torr", "pressure", 101_325.0, 760.0, false),
    ("mmHg", "pressure", 133_322_387_415.0, 1e9, false),
    ("inHg", "pressure", 3_386_389.0, 1e3, false),
    ("mmH2O", "pressure", 980_665.0, 1e5, false),
    // Length, in m.
    ("m", "length", 1.0, 1.0, true),
    ("in", "length", 127.0, 5_000.0, false),
    ("ft", "length", 381.0, 1_250.0, false),
    ("yd", "length", 1_143.0, 1_250.0, false),
    ("mi", "length", 1_609_344.0, 1e3, false),
    ("mil", "length", 127.0, 5_000_000.0, false),
    // Area, in m².
    ("m²", "area", 1.0, 1.0, false),
    ("cm²", "area", 1.0, 1e4, false),
    ("mm²", "area", 1.0, 1e6, false),
    // Mass, in g.
    ("g", "mass", 1.0, 1.0, true),
    ("t", "mass", 1e6, 1.0, false),
    ("lb", "mass", 45_359_237.0, 1e5, false),
    ("oz", "mass", 28_349_523_125.0, 1e9, false),
    // Time, in s.
    ("s", "time", 1.0, 1.0, true),
    ("min", "time", 60.0, 1.0, false),
    ("h", "time", 3_600.0, 1.0, false),
    ("d", "time", 86_400.0, 1.0, false),
    // Speed, in m/s.
    ("m/s", "speed", 1.0, 1.0, true),
    ("m/min", "speed", 1.0, 60.0, true),
    ("km/h", "speed", 5.0, 18.0, false),
    ("mph", "speed", 1_397.0, 3_125.0, false),
    ("kn", "speed", 463.0, 900.0, false),
    ("ft/s", "speed", 381.0, 1_250.0, false),
    ("ft/min", "speed", 381.0, 75_000.0, false),
    ("in/s", "speed", 127.0, 5_000.0, false),
    // Acceleration, in m/s².
    ("m/s²", "acceleration", 1.0, 1.0, true),
    ("gn", "acceleration", 980_665.0, 100_000.0, false),
    ("ft/s²", "acceleration", 381.0, 1_250.0, false),
    // Frequency, in Hz.
    ("Hz", "frequency", 1.0, 1.0, true),
    ("rpm", "frequency", 1.0, 60.0, false),
    ("rps", "frequency", 1.0, 1.0, false),
    ("rad/s", "frequency", 1.0, std::f64::consts::TAU, false),
    // Angle, in degrees: most angles of industry are written in them.
    ("°", "angle", 1.0, 1.0, false),
    ("rad", "angle", 180.0, std::f64::consts::PI, true),
    ("turn", "angle", 360.0, 1.0, false),
    // Volume, in L. The gallon is that of the US.
    ("L", "volume", 1.0, 1.0, true),
    ("m³", "volume", 1e3, 1.0, false),
    ("cm³", "volume", 1.0, 1e3, false),
    ("gal", "volume", 473_176_473.0, 125_000_000.0, false),
    ("ft³", "volume", 28_316_846_592.0, 1e9, false),
    ("bbl", "volume", 158_987_294_928.0, 1e9, false),
    // Volume flow, in L/min.
    ("L/min", "volume flow", 1.0, 1.0, true),
    ("L/s", "volume flow", 60.0, 1.0, true),
    ("L/h", "volume flow", 1.0, 60.0, true),
    ("m³/s", "volume flow", 60_000.0, 1.0, false),
    ("m³/min", "volume flow", 1e3, 1.0, false),
    ("m³/h", "volume flow", 50.0, 3.0, false),
    ("gpm", "volume flow", 473_176_473.0, 125_000_000.0, false),
    ("cfm", "volume flow", 28_316_846_592.0, 1e9, false),
    // Gas at normal conditions does not convert to a flow at the meter's.
    ("Nm³/h", "normal volume flow", 1.0, 1.0, false),
    // Mass flow, in g/s.
    ("g/s", "mass flow", 1.0, 1.0, true),
    ("kg/min", "mass flow", 50.0, 3.0, false),
    ("kg/h", "mass flow", 5.0, 18.0, false),
    ("t/h", "mass flow", 2_500.0, 9.0, false),
    // Density and mass concentration, in g/m³.
    ("g/m³", "density", 1.0, 1.0, true),
    ("g/L", "density", 1e3, 1.0, true),
    ("g/cm³", "density", 1e6, 1.0, false),
    // Force, in N.
    ("N", "force", 1.0, 1.0, true),
    ("lbf", "force", 44_482_216_152_605.0, 1e13, false),
    ("kgf", "force", 980_665.0, 1e5, false),
    // Torque is not energy, though both are N·m.
    ("Nm", "torque", 1.0, 1.0, true),
    // Energy, in J.
    ("J", "energy", 1.0, 1.0, true),
    ("Wh", "energy", 3_600.0, 1.0, true),
    ("cal", "energy", 523.0, 125.0, true),
    ("BTU", "energy", 105_505_585_262.0, 1e8, false),
    // Power, in W. Apparent and reactive power are other quantities.
    ("W", "power", 1.0, 1.0, true),
    ("hp", "power", 37_284_993_579_113_511.0, 5e13, false),
    ("BTU/h", "power", 105_505_585_262.0, 3_600e8, false),
    ("VA", "apparent power", 1.0, 1.0, true),
    ("var", "reactive power", 1.0, 1.0, true),
    ("W/m²", "irradiance", 1.0, 1.0, true),
    // Electricity.
    ("V", "voltage", 1.0, 1.0, true),
    ("A", "current", 1.0, 1.0, true),
    ("Ω", "resistance", 1.0, 1.0, true),
    ("S", "conductance", 1.0, 1.0, true),
    ("S/m", "conductivity", 1.0, 1.0, true),
    ("S/cm", "conductivity", 100.0, 1.0, true),
    ("Ah", "charge", 1.0, 1.0, true),
    ("T", "magnetic flux density", 1.0, 1.0, true),
    // Light, sound.
    ("lx", "illuminance", 1.0, 1.0, true),
    ("lm", "luminous flux", 1.0, 1.0, true),
    ("cd", "luminous intensity", 1.0, 1.0, false),
    ("dB", "level (dB)", 1.0, 1.0, false),
    ("dBA", "level (dBA)", 1.0, 1.0, false),
    ("dBm", "level (dBm)", 1.0, 1.0, false),
    // Shares of one.
    ("%", "share", 1.0, 100.0, false),
    ("‰", "share", 1.0, 1e3, false),
    ("ppm", "share", 1.0, 1e6, false),
    ("ppb", "share", 1.0, 1e9, false),
    // Chemistry, water.
    ("mol", "amount of substance", 1.0, 1.0, true),
    ("pH", "acidity", 1.0, 1.0, false),
    ("NTU", "turbidity", 1.0, 1.0, false),
    // Viscosity.
    ("Pa·s", "dynamic viscosity", 1.0, 1.0, true),
    ("cP", "dynamic viscosity", 1.0, 1e3, false),
    ("mm²/s", "kinematic viscosity", 1.0, 1.0, false),
    ("cSt", "kinematic viscosity", 1.0, 1.0, false),
    // Data, in bits.
    ("bit", "data", 1.0, 1.0, true),
    ("B", "data", 8.0, 1.0, true),
    ("KiB", "data", 8_192.0, 1.0, false),
    ("MiB", "data", 8_388_608.0, 1.0, false),
    ("GiB", "data", 8_589_934_592.0, 1.0, false),
    ("bit/s", "data rate", 1.0, 1.0, true),
    ("B/s", "data rate", 8.0, 1.0, true),
    ("count", "count", 1.0, 1.0, false),
    ("pcs", "count", 1.0, 1.0, false),
];

/// Other spellings of the symbols above, prefixed or not. Powers are superscripts by then.
pub(super) const ALIASES: [(&str, &str); 23] = [
    ("ohm", "Ω"),
    ("Ohm", "Ω"),
    ("\u{2126}", "Ω"),
    ("l", "L"),
    ("l/min", "L/min"),
    ("l/s", "L/s"),
    ("l/h", "L/h"),
    ("LPM", "L/min"),
    ("lpm", "L/min"),
    ("g/l", "g/L"),
    ("deg", "°"),
    ("º", "°"),
    ("N·m", "Nm"),
    ("kmh", "km/h"),
    ("kph", "km/h"),
    ("m/sec", "m/s"),
    ("sec", "s"),
    ("hr", "h"),
    ("gal/min", "gpm"),
    ("mmWS", "mmH2O"),
    ("%RH", "%"),
    ("%rH", "%"),
    ("bps", "bit/s"),
];

/// SI prefixes as numerator and denominator.
pub(super) const PREFIXES: [(&str, f64, f64); 12] = [
    ("p", 1.0, 1e12),
    ("n", 1.0, 1e9),
    ("µ", 1.0, 1e6),
    ("μ", 1.0, 1e6),
    ("u", 1.0, 1e6),
    ("m", 1.0, 1e3),
    ("c", 1.0, 1e2),
    ("h", 1e2, 1.0),
    ("k", 1e3, 1.0),
    ("M", 1e6, 1.0),
    ("G", 1e9, 1.0),
    ("T", 1e12, 1.0),
];

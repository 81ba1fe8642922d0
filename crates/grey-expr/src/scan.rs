//! The user's text, rewritten into plain ASCII CEL.
//!
//! CEL knows no quantities (`85°C`), no names such as `line-1/pressure` and no
//! identifiers beyond ASCII. This scan replaces them by what CEL can read, and
//! keeps for each byte that it writes the character of the user's text that it
//! stands for, so that every error points into the text as it was written.
//!
//! It is also the guard before the CEL parser, which recurses: length, nesting
//! and the number of operators are bounded here, and operands and operators are
//! checked to alternate, which gives plainer errors than a grammar's.
//!
//! It knows tokens only; what they mean is decided later.

use crate::error::ExprError;
use crate::parse::{FUNCTIONS, METHODS, RESERVED};
use crate::suggest::nearest;
use crate::unit::Unit;
use crate::{DEPTH_MAX, OPERATORS_MAX, TEXT_MAX};

/// A number as it was written, with its unit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Quantity {
    pub(crate) value: f64,
    pub(crate) unit: Option<(Unit, String)>,
}

/// What the scan made of a text.
#[derive(Debug)]
pub(crate) struct Scanned {
    /// CEL. Every number literal in it is an index into `numbers`, counted from 1 (so that it can be negated).
    pub(crate) cel: String,
    /// For each byte of `cel` the character of the user's text.
    pub(crate) positions: Vec<u32>,
    pub(crate) numbers: Vec<Quantity>,
    /// Characters of the user's text.
    pub(crate) end: usize,
}

/// Words that CEL reserves; as names of streams they are passed as text.
const CEL_RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

const OPERATORS: [&str; 14] = ["&&", "||", "==", "!=", ">=", "<=", ">", "<", "+", "-", "*", "/", "%", "?"];

pub(crate) const OPERATORS_ALLOWED: &str = "one of >, >=, <, <=, ==, !=, &&, ||, +, -, *, /, %, in, ? :";
const OPERAND_ALLOWED: &str = "a stream such as temperature, a number such as 85 or 85°C, or a text such as \"on\"";
const UNIT_ALLOWED: &str = "a unit such as °C, °F, K, %, V, kW, mm/s, bar, rpm, or none";

/// Longest run of characters that is looked at as a unit.
const UNIT_CHARS_MAX: usize = 24;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frame {
    Paren,
    Call,
    Index,
    List,
    Ternary,
}

struct Scanner<'a> {
    chars: &'a [char],
    at: usize,
    out: Scanned,
    frames: Vec<(Frame, usize)>,
    operators: usize,
    /// An operand comes next, not an operator.
    operand: bool,
    /// The last token was `.`: a field's name comes next.
    field: bool,
    /// The last token opened a call or a list, which may close at once.
    opened: bool,
}

/// Rewrites a text. The first `name_chars` characters after leading white space are one stream's name.
pub(crate) fn scan(text: &str, name_chars: Option<usize>) -> Result<Scanned, ExprError> {
    let chars = characters(text)?;
    let out = Scanned { cel: String::new(), positions: Vec::new(), numbers: Vec::new(), end: chars.len() };
    let mut scanner = Scanner {
        chars: &chars,
        at: 0,
        out,
        frames: Vec::new(),
        operators: 0,
        operand: true,
        field: false,
        opened: false,
    };
    if let Some(length) = name_chars {
        let start = scanner.chars.iter().take_while(|c| c.is_whitespace()).count();
        let name: String = scanner.chars[start..start + length].iter().collect();
        scanner.at = start + length;
        scanner.stream(&name, start);
    }
    while scanner.at < chars.len() {
        scanner.token()?;
    }
    scanner.finish()?;
    Ok(scanner.out)
}

/// The characters of a text that is neither empty nor too long.
pub(crate) fn characters(text: &str) -> Result<Vec<char>, ExprError> {
    // A character takes at most four bytes: a huge text is refused unread.
    if text.len() > 4 * TEXT_MAX || text.chars().count() > TEXT_MAX {
        let allowed = format!("at most {TEXT_MAX} characters");
        return Err(ExprError::new(TEXT_MAX, "the condition is too long", allowed));
    }
    if text.trim().is_empty() {
        return Err(ExprError::new(0, "the stream's name is missing", "a condition such as temperature > 85°C"));
    }
    Ok(text.chars().collect())
}

/// Whether a character may stand in a name.
pub(crate) fn in_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn starts_word(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

impl Scanner<'_> {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    /// The first character from `at` on that is not white space.
    fn after_space(&self, at: usize) -> Option<char> {
        self.chars[at.min(self.chars.len())..].iter().copied().find(|c| !c.is_whitespace())
    }

    fn emit(&mut self, cel: &str, position: usize) {
        self.out.cel.push_str(cel);
        self.out.positions.resize(self.out.cel.len(), position as u32);
    }

    /// One character of a text, as CEL reads it between double quotes.
    fn emit_char(&mut self, c: char, position: usize) {
        match c {
            '"' | '\\' => self.emit(&format!("\\{c}"), position),
            ' '..='~' => self.emit(c.encode_utf8(&mut [0; 4]), position),
            c => self.emit(&format!("\\U{:08x}", u32::from(c)), position),
        }
    }

    fn stream(&mut self, name: &str, position: usize) {
        self.emit("stream(\"", position);
        name.chars().for_each(|c| self.emit_char(c, position));
        self.emit("\")", position);
        self.operand = false;
    }

    fn fail<T>(&self, offset: usize, problem: impl Into<String>, allowed: impl Into<String>) -> Result<T, ExprError> {
        Err(ExprError::new(offset, problem, allowed))
    }

    fn count(&mut self, offset: usize) -> Result<(), ExprError> {
        self.operators += 1;
        if self.operators > OPERATORS_MAX {
            return self.fail(
                offset,
                "the condition has too many operators",
                format!("at most {OPERATORS_MAX}, calls and brackets among them"),
            );
        }
        Ok(())
    }

    fn push(&mut self, frame: Frame) -> Result<(), ExprError> {
        self.count(self.at)?;
        if self.frames.len() >= DEPTH_MAX {
            return self.fail(self.at, "the condition nests too deeply", format!("at most {DEPTH_MAX} levels"));
        }
        self.frames.push((frame, self.at));
        self.opened = matches!(frame, Frame::Call | Frame::List);
        self.operand = true;
        Ok(())
    }

    fn token(&mut self) -> Result<(), ExprError> {
        let at = self.at;
        let Some(c) = self.peek(0) else { return Ok(()) };
        if c.is_whitespace() {
            self.emit(" ", at);
            self.at += 1;
            return Ok(());
        }
        if c == '/' && self.peek(1) == Some('/') {
            // A comment, to the end of its line.
            while self.peek(0).is_some_and(|c| c != '\n') {
                self.at += 1;
            }
            self.emit(" ", at);
            return Ok(());
        }
        if self.field {
            return self.field_name();
        }
        let opened = std::mem::take(&mut self.opened);
        let quoted = matches!(c, '"' | '\'');
        let word_len = self.chars[at..].iter().take_while(|c| in_word(**c)).count();
        let word: String = self.chars[at..at + word_len].iter().collect();
        if !self.operand && (quoted || c == '`' || word_len > 0) && word != "in" {
            let found = if word_len > 0 { word } else { c.into() };
            return self.no_operator(at, &found);
        }
        match c {
            '"' | '\'' => self.text(c, false, at),
            '`' => self.backquoted(),
            'r' | 'R' if word_len == 1 && matches!(self.peek(1), Some('"' | '\'')) => {
                self.at += 1;
                self.text(self.chars[at + 1], true, at)
            }
            '0'..='9' => self.number(),
            '.' if self.operand && self.peek(1).is_some_and(|c| c.is_ascii_digit()) => self.number(),
            c if starts_word(c) => self.word(&word),
            c => self.sign(c, opened),
        }
    }

    fn no_operator<T>(&self, at: usize, found: &str) -> Result<T, ExprError> {
        match found.to_lowercase().as_str() {
            "and" => self.fail(at, format!("{found:?} is written &&"), "&&"),
            "or" => self.fail(at, format!("{found:?} is written ||"), "||"),
            _ => self.fail(at, format!("{found:?} does not compare"), OPERATORS_ALLOWED),
        }
    }

    fn field_name(&mut self) -> Result<(), ExprError> {
        let at = self.at;
        let word: String = self.chars[at..].iter().take_while(|c| in_word(**c)).collect();
        if !word.starts_with(starts_word) || !word.is_ascii() {
            return self.fail(
                at,
                "a field's name is missing after the dot",
                "a name of letters, digits and _; any other in backquotes with its stream: `line-1.avg`",
            );
        }
        self.field = false;
        self.at += word.len();
        self.emit(&word, at);
        if self.after_space(self.at) == Some('(') {
            self.known(&word, at, &METHODS)?;
        }
        Ok(())
    }

    /// Refuses a function that there is not.
    fn known(&self, word: &str, at: usize, functions: &[&str]) -> Result<(), ExprError> {
        if functions.contains(&word) {
            return Ok(());
        }
        let list = functions.join(", ");
        let allowed = match nearest(word, functions.iter().copied()) {
            Some(near) => format!("did you mean {near}? There are {list}"),
            None => format!("one of {list}"),
        };
        let problem = match word {
            "matches" => "regular expressions are not supported (matches)".into(),
            _ => format!("the function {word:?} is unknown"),
        };
        self.fail(at, problem, allowed)
    }

    fn word(&mut self, word: &str) -> Result<(), ExprError> {
        let at = self.at;
        self.at += word.chars().count();
        let next = self.after_space(self.at);
        match word {
            "in" if !self.operand => {
                self.count(at)?;
                self.emit("in", at);
                self.operand = true;
                return Ok(());
            }
            "in" => return self.fail(at, "a value is missing before \"in\"", OPERAND_ALLOWED),
            "null" => return self.fail(at, "there is no null", "has(attributes.x) to ask whether a label is there"),
            "not" | "NOT" if next.is_some_and(starts_word) => {
                return self.fail(at, format!("{word:?} is written !"), "!");
            }
            "b" | "B" | "br" | "rb" if matches!(self.peek(0), Some('"' | '\'')) => {
                return self.fail(at, "byte texts are not supported", "a text such as \"on\"");
            }
            _ => {}
        }
        if next == Some('(') {
            self.known(word, at, &FUNCTIONS)?;
        } else if (!word.is_ascii() || CEL_RESERVED.contains(&word)) && !RESERVED.contains(&word) {
            self.stream(word, at);
            return Ok(());
        }
        for (i, c) in word.chars().enumerate() {
            self.emit(c.encode_utf8(&mut [0; 4]), at + i);
        }
        self.operand = false;
        Ok(())
    }

    fn backquoted(&mut self) -> Result<(), ExprError> {
        let at = self.at;
        let name: String = self.chars[at + 1..].iter().take_while(|c| **c != '`').collect();
        let end = at + 1 + name.chars().count();
        if end >= self.chars.len() {
            return self.fail(at, "the backquote is not closed", "a stream's name such as `line-1/pressure`");
        }
        if name.is_empty() {
            return self.fail(at, "the name between the backquotes is empty", "a name such as `line-1/pressure`");
        }
        self.at = end + 1;
        self.stream(&name, at);
        Ok(())
    }

    fn text(&mut self, quote: char, raw: bool, start: usize) -> Result<(), ExprError> {
        self.emit("\"", start);
        loop {
            self.at += 1;
            let at = self.at;
            match self.peek(0) {
                None | Some('\n' | '\r') => {
                    return self.fail(start, "the text is not closed", format!("a closing {quote} on the same line"));
                }
                Some(c) if c == quote => break,
                Some('\\') if !raw => {
                    let Some(next) = self.peek(1).filter(|c| matches!(c, ' '..='~')) else {
                        return self.fail(at, "the escape in the text is unknown", "\\\\ for a backslash");
                    };
                    self.emit(&format!("\\{next}"), at);
                    self.at += 1;
                }
                Some(c) => self.emit_char(c, at),
            }
        }
        self.emit("\"", self.at);
        self.at += 1;
        self.operand = false;
        Ok(())
    }

    fn number(&mut self) -> Result<(), ExprError> {
        let at = self.at;
        let digits =
            |from: usize| self.chars[from.min(self.chars.len())..].iter().take_while(|c| c.is_ascii_digit()).count();
        let is = |i: usize, wanted: &str| self.chars.get(i).is_some_and(|c| wanted.contains(*c));
        let mut end = at + digits(at);
        let mut whole = true;
        if is(end, ".") && !self.chars.get(end + 1).copied().is_some_and(starts_word) {
            whole = false;
            end += 1 + digits(end + 1);
        }
        if is(end, "eE") {
            let signed = end + 1 + usize::from(is(end + 1, "+-"));
            // Without digits behind it the letter belongs to the unit.
            if digits(signed) > 0 {
                whole = false;
                end = signed + digits(signed);
            }
        }
        let text: String = self.chars[at..end].iter().collect();
        let value = text.parse::<f64>().ok().filter(|n| n.is_finite());
        let Some(value) = value else {
            return self.fail(at, format!("the limit {text} is not a number"), "a number such as 85 or -12.5");
        };
        if whole && value > (1_u64 << 53) as f64 {
            return self.fail(
                at,
                format!("the integer {text} is too large to be exact"),
                "at most 9007199254740992; write a larger one as 1e19",
            );
        }
        self.at = end;
        let unit = self.unit()?;
        self.out.numbers.push(Quantity { value, unit });
        let index = self.out.numbers.len().to_string();
        self.emit(&index, at);
        self.operand = false;
        Ok(())
    }

    /// The unit that follows a number, on the same line.
    fn unit(&mut self) -> Result<Option<(Unit, String)>, ExprError> {
        let space =
            self.chars[self.at..].iter().take_while(|c| matches!(c, ' ' | '\t' | '\u{a0}' | '\u{202f}')).count();
        let start = self.at + space;
        let in_unit = |c: &&char| c.is_alphanumeric() || "°º%²³^/_·".contains(**c);
        let length = self.chars[start..].iter().take(UNIT_CHARS_MAX).take_while(in_unit).count();
        let run = &self.chars[start..start + length];
        let starts = run.first().is_some_and(|c| c.is_alphabetic() || "°º%".contains(*c) || matches!(c, '℃' | '℉'));
        if !starts {
            // Signs that are symbols, not letters, to Unicode.
            return match self.chars.get(start) {
                Some(sign @ ('℃' | '℉')) => {
                    self.at = start + 1;
                    let name = sign.to_string();
                    Ok(Unit::parse(&name).map(|unit| (unit, name)))
                }
                _ => Ok(None),
            };
        }
        let after = |length: usize| self.after_space(start + length);
        let operand_follows =
            |length| after(length).is_some_and(|c| in_word(c) || matches!(c, '(' | '.' | '-' | '"' | '\'' | '`'));
        let word: String = run.iter().take_while(|c| in_word(**c)).collect();
        if run[0] == '%' && operand_follows(1) && !after(1).is_some_and(|c| run.get(1) == Some(&c) && c.is_alphabetic())
        {
            // `7 % 4`: the remainder.
            return Ok(None);
        }
        if word == "in" && after(2).is_some_and(|c| c == '[' || starts_word(c)) {
            return Ok(None);
        }
        // The longest part that is a unit and ends where a word ends.
        for length in (1..=length).rev() {
            if self.chars.get(start + length).copied().is_some_and(in_word) && in_word(run[length - 1]) {
                continue;
            }
            let name: String = run[..length].iter().collect();
            if let Some(unit) = Unit::parse(&name) {
                self.at = start + length;
                return Ok(Some((unit, name)));
            }
        }
        if space > 0 && matches!(word.to_lowercase().as_str(), "and" | "or") {
            return self.no_operator(start, &word);
        }
        let name: String = run.iter().collect();
        let allowed = match Unit::nearest(&name) {
            Some(near) => format!("did you mean {near}? There are units such as °C, %, kW, mm/s, bar"),
            None => UNIT_ALLOWED.into(),
        };
        self.fail(start, format!("the unit {name:?} is unknown"), allowed)
    }

    fn sign(&mut self, c: char, opened: bool) -> Result<(), ExprError> {
        let at = self.at;
        let top = self.frames.last().copied();
        match c {
            '(' | '[' => {
                let before = self.chars[..at].iter().rev().find(|c| !c.is_whitespace()).copied();
                let frame = match (c, self.operand) {
                    ('(', true) => Frame::Paren,
                    ('[', true) => Frame::List,
                    ('[', false) => Frame::Index,
                    _ if before.is_some_and(in_word) && !self.after_literal() => Frame::Call,
                    _ => return self.no_operator(at, "("),
                };
                self.push(frame)?;
            }
            ')' | ']' => {
                let Some((frame, opened_at)) = top else {
                    return self.fail(at, format!("{c} closes nothing"), "as many opening as closing brackets");
                };
                if self.operand && !opened {
                    return self.missing(at, &c.to_string());
                }
                let fits = match frame {
                    Frame::Paren | Frame::Call => c == ')',
                    Frame::Index | Frame::List => c == ']',
                    Frame::Ternary => return self.no_colon(opened_at),
                };
                if !fits {
                    return self.fail(at, format!("{c} does not close {}", self.chars[opened_at]), "brackets in pairs");
                }
                self.frames.pop();
                self.operand = false;
            }
            ',' => {
                if self.operand {
                    return self.missing(at, ",");
                }
                match top {
                    Some((Frame::Call | Frame::List, _)) => self.operand = true,
                    Some((Frame::Ternary, opened_at)) => return self.no_colon(opened_at),
                    _ => return self.fail(at, "a comma stands only in calls and lists", OPERATORS_ALLOWED),
                }
            }
            ':' => {
                if self.operand {
                    return self.missing(at, ":");
                }
                let Some((Frame::Ternary, _)) = top else {
                    return self.fail(at, ": without a ? before it", "condition ? value : value");
                };
                self.frames.pop();
                self.operand = true;
            }
            '.' if !self.operand => {
                self.count(at)?;
                self.field = true;
            }
            '{' | '}' => return self.fail(at, "maps are not supported", OPERAND_ALLOWED),
            '-' | '!' if self.operand && !(c == '!' && self.peek(1) == Some('=')) => self.count(at)?,
            '+' if self.operand && self.peek(1).is_some_and(|c| c.is_ascii_digit() || c == '.') => {
                self.at += 1;
                self.emit(" ", at);
                return Ok(());
            }
            _ => return self.operator(c),
        }
        self.at += 1;
        self.emit(c.encode_utf8(&mut [0; 4]), at);
        Ok(())
    }

    /// Whether the token before is a literal, which cannot be called.
    fn after_literal(&self) -> bool {
        let word: usize =
            self.out.cel.trim_end().bytes().rev().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
        let cel = self.out.cel.trim_end();
        let word = &cel[cel.len() - word..];
        word.is_empty() || word.starts_with(|c: char| c.is_ascii_digit()) || matches!(word, "true" | "false")
    }

    fn operator(&mut self, c: char) -> Result<(), ExprError> {
        let at = self.at;
        let rest: String = self.chars[at..].iter().take(2).collect();
        let Some(sign) = OPERATORS.iter().find(|sign| rest.starts_with(**sign)) else {
            return match c {
                '=' => self.fail(at, "a single = does not compare", "=="),
                '&' | '|' => self.fail(at, format!("a single {c} does not join conditions"), format!("{c}{c}")),
                '≥' => self.fail(at, "≥ is written >=", ">="),
                '≤' => self.fail(at, "≤ is written <=", "<="),
                '≠' => self.fail(at, "≠ is written !=", "!="),
                _ if self.operand => self.fail(at, format!("{c:?} is no value"), OPERAND_ALLOWED),
                _ => self.fail(at, format!("{c:?} does not compare"), OPERATORS_ALLOWED),
            };
        };
        if self.operand {
            return self.missing(at, sign);
        }
        if *sign == "?" {
            self.push(Frame::Ternary)?;
        } else {
            self.count(at)?;
        }
        self.operand = true;
        self.at += sign.len();
        for (i, c) in sign.char_indices() {
            self.emit(c.encode_utf8(&mut [0; 4]), at + i);
        }
        Ok(())
    }

    fn no_colon<T>(&self, at: usize) -> Result<T, ExprError> {
        self.fail(at, "? without a : behind it", "condition ? value : value")
    }

    fn missing<T>(&self, at: usize, before: &str) -> Result<T, ExprError> {
        self.fail(at, format!("a value is missing before {before}"), OPERAND_ALLOWED)
    }

    fn finish(&self) -> Result<(), ExprError> {
        let end = self.chars.len();
        if self.field {
            return self.fail(end, "a field's name is missing after the dot", "a name of letters, digits and _");
        }
        if self.operand {
            return self.fail(end, "the condition ends where a value is missing", OPERAND_ALLOWED);
        }
        match self.frames.last() {
            None => Ok(()),
            Some((Frame::Ternary, at)) => self.no_colon(*at),
            Some((_, at)) => self.fail(*at, format!("{} is not closed", self.chars[*at]), "brackets in pairs"),
        }
    }
}

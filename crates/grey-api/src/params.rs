//! Query parameters, read strictly: an unknown one is an error with a
//! suggestion, because a misspelt filter that is ignored answers too much.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::cursor::{Cursor, Position};
use crate::problem::{Place, Problem};

/// Longest query string read, in bytes.
pub const QUERY_BYTES_MAX: usize = 8 * 1024;
/// Entries on a page when the client names no limit.
pub const LIMIT_DEFAULT: usize = 100;
/// Most entries on a page.
pub const LIMIT_MAX: usize = 10_000;

/// The parameters of one request, each given at most once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Params {
    pairs: Vec<(String, String)>,
    problem: Option<Problem>,
}

impl Params {
    /// Reads a query string. Every name must be one of `known`.
    pub fn parse(query: &str, known: &[&str]) -> Self {
        let mut params = Self { pairs: Vec::new(), problem: None };
        if query.len() > QUERY_BYTES_MAX {
            params.problem = Some(
                Problem::invalid_query()
                    .detail(format!("it has {} bytes, the limit is {QUERY_BYTES_MAX}", query.len())),
            );
            return params;
        }
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if !known.contains(&name.as_ref()) {
                params.fault(&name, unknown(&name, known));
            } else if params.get(&name).is_some() {
                params.fault(&name, "it is given twice");
            } else {
                params.pairs.push((name.into_owned(), value.into_owned()));
            }
        }
        params
    }

    /// The text of a parameter. An empty one counts as not given.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// A parameter read by `read`; what it refuses is kept for [`Params::finish`].
    pub fn read<T, E: std::fmt::Display>(&mut self, name: &str, read: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        match self.get(name).map(read)? {
            Ok(value) => Some(value),
            Err(error) => {
                let reason = error.to_string();
                self.fault(name, reason);
                None
            }
        }
    }

    /// The page size: 1 to [`LIMIT_MAX`]; `None` when not given.
    pub fn limit(&mut self) -> Option<usize> {
        self.read("limit", |text| match text.parse::<usize>() {
            Ok(limit) if (1..=LIMIT_MAX).contains(&limit) => Ok(limit),
            _ => Err(format!("{:?} is not a number from 1 to {LIMIT_MAX}", shorten(text))),
        })
    }

    /// Where the page starts, if the client continues one of the query with this digest.
    pub fn position(&mut self, digest: u32) -> Result<Option<Position>, Problem> {
        match self.get("cursor") {
            None => Ok(None),
            Some(text) => Ok(Some(Cursor::decode(text)?.position_in(digest)?)),
        }
    }

    /// A digest of everything but `limit` and `cursor`: what a cursor belongs to.
    pub fn digest(&self) -> u32 {
        let mut pairs: Vec<_> = self
            .pairs
            .iter()
            .filter(|(name, value)| name != "limit" && name != "cursor" && !value.is_empty())
            .collect();
        pairs.sort_unstable();
        let mut text = String::new();
        for (name, value) in pairs {
            text.extend([name.as_str(), "\0", value.as_str(), "\0"]);
        }
        crc32c::crc32c(text.as_bytes())
    }

    /// Notes that a parameter is wrong.
    pub fn fault(&mut self, name: &str, reason: impl Into<String>) {
        self.problem.get_or_insert_with(Problem::invalid_query).push_fault(Place::Parameter(shorten(name)), reason);
    }

    /// Ends the reading: everything that was wrong, in one problem.
    pub fn finish(self) -> Result<(), Problem> {
        match self.problem {
            None => Ok(()),
            Some(mut problem) => {
                if problem.detail.is_none() {
                    problem.detail = problem.errors.first().map(|fault| match &fault.place {
                        Place::Parameter(name) => format!("parameter '{name}': {}", fault.detail),
                        _ => fault.detail.clone(),
                    });
                }
                Err(problem)
            }
        }
    }
}

/// The parameters of a list that is filtered by site: `site`, `limit`, `cursor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListQuery {
    /// Only this site.
    pub site: Option<grey_model::SiteId>,
    /// Most entries on the page.
    pub limit: usize,
    /// Where the page starts; `None` is the beginning.
    pub after: Option<Position>,
    digest: u32,
}

impl ListQuery {
    /// The parameters, for the route's documentation.
    pub const PARAMS: [(&'static str, &'static str); 3] = [
        ("site", "only this site"),
        ("limit", "entries on the page: 1 to 10000, default 100"),
        ("cursor", "the cursor of the page before"),
    ];

    /// Reads a query string.
    pub fn parse(query: &str) -> Result<Self, Problem> {
        let mut params = Params::parse(query, &Self::PARAMS.map(|(name, _)| name));
        let site = params.read("site", grey_model::SiteId::new);
        let limit = params.limit().unwrap_or(LIMIT_DEFAULT);
        let digest = params.digest();
        let after = params.position(digest);
        params.finish()?;
        Ok(Self { site, limit, after: after?, digest })
    }

    /// The cursor for the page that follows this one.
    pub fn cursor(&self, position: Position) -> Cursor {
        Cursor::new(self.digest, position)
    }
}

impl<S: Sync> FromRequestParts<S> for ListQuery {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::parse(parts.uri.query().unwrap_or_default())
    }
}

/// Refuses every parameter: for routes that have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoQuery;

impl<S: Sync> FromRequestParts<S> for NoQuery {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Params::parse(parts.uri.query().unwrap_or_default(), &[]).finish().map(|()| Self)
    }
}

/// At most 64 characters of what a client sent, for an error text.
pub(crate) fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}

fn unknown(name: &str, known: &[&str]) -> String {
    let nearest = known.iter().map(|k| (distance(name, k), k)).min_by_key(|(d, _)| *d);
    match nearest {
        Some((d, k)) if d <= 1 + k.len() / 3 => format!("it is unknown; did you mean '{k}'?"),
        Some(_) => format!("it is unknown; known are {}", known.join(", ")),
        None => "it is unknown; this address takes no parameters".into(),
    }
}

/// Edit distance with neighbours swapped as one step, on short names.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            if i == 0 || j == 0 {
                rows[i][j] = i + j;
                continue;
            }
            let swap = usize::from(!a[i - 1].eq_ignore_ascii_case(&b[j - 1]));
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + swap);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 4] = ["site", "device", "limit", "cursor"];

    fn faults(query: &str) -> Vec<String> {
        let mut params = Params::parse(query, &KNOWN);
        params.limit();
        params.finish().map_or_else(|p| p.errors.iter().map(|f| f.detail.clone()).collect(), |()| Vec::new())
    }

    #[test]
    fn an_unknown_parameter_is_refused_with_a_suggestion() {
        for (name, meant) in [("sites", "site"), ("Device", "device"), ("limt", "limit"), ("dveice", "device")] {
            let found = faults(&format!("{name}=x"));
            assert!(found[0].contains(&format!("did you mean '{meant}'")), "{found:?}");
        }
        assert_eq!(faults("quantum=1"), ["it is unknown; known are site, device, limit, cursor"]);
    }

    #[test]
    fn everything_wrong_is_named_at_once() {
        assert_eq!(faults("limit=0&site=a&site=b&lmit=2").len(), 3);
        assert!(faults("site=a&device=%C3%A9&limit=10000&cursor=").is_empty());
        assert_eq!(faults("limit=10001"), ["\"10001\" is not a number from 1 to 10000"]);
        assert_eq!(faults("limit=-1").len(), 1);
    }

    #[test]
    fn a_query_without_bound_is_not_read() {
        let long = format!("site={}", "x".repeat(QUERY_BYTES_MAX));
        let problem = Params::parse(&long, &KNOWN).finish().unwrap_err();
        assert!(problem.detail.as_ref().unwrap().contains("limit is 8192"));
        let many = "x=1&".repeat(1_000);
        assert_eq!(Params::parse(&many, &KNOWN).finish().unwrap_err().errors_omitted, 900);
    }

    #[test]
    fn a_list_pages_only_within_its_own_query() {
        let first = ListQuery::parse("site=a&limit=5").unwrap();
        let cursor = first.cursor(Position::Name("a".into())).encode();
        let second = ListQuery::parse(&format!("limit=9&cursor={cursor}&site=a")).unwrap();
        assert_eq!((second.after, second.limit), (Some(Position::Name("a".into())), 9));
        let other = ListQuery::parse(&format!("site=b&cursor={cursor}")).unwrap_err();
        assert_eq!(other.slug, "invalid-cursor");
        assert_eq!(ListQuery::parse("cursor=%00%ff").unwrap_err().slug, "invalid-cursor");
    }
}

//! Small JSON bodies, read strictly: everything that is wrong is named at once,
//! each with its pointer.

use std::fmt::Display;

use axum::http::StatusCode;
use grey_api::{Place, Problem};
use serde_json::{Map, Value as Json};

/// An object of a request, taken apart member by member.
#[derive(Debug)]
pub(super) struct Body {
    members: Map<String, Json>,
    problem: Option<Problem>,
}

fn unprocessable() -> Problem {
    Problem::of_status(StatusCode::UNPROCESSABLE_ENTITY)
}

impl Body {
    /// Reads an object; an empty body is one without members.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        if bytes.trim_ascii().is_empty() {
            return Ok(Self { members: Map::new(), problem: None });
        }
        match serde_json::from_slice(bytes) {
            Ok(Json::Object(members)) => Ok(Self { members, problem: None }),
            Ok(_) => {
                let detail = "it must be a JSON object";
                Err(unprocessable().detail(detail).fault(Place::Pointer("".into()), detail))
            }
            Err(error) => {
                let place = Place::Line(error.line().max(1) as u64);
                Err(Problem::invalid_body().detail(error.to_string()).fault(place, error.to_string()))
            }
        }
    }

    /// Notes that a member is wrong.
    pub(super) fn fault(&mut self, name: &str, detail: impl Into<String>) {
        let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
        self.problem.get_or_insert_with(unprocessable).push_fault(Place::Pointer(pointer), detail);
    }

    /// A text, if it is there.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        match self.members.remove(name)? {
            Json::Null => None,
            Json::String(text) => Some(text),
            other => {
                self.fault(name, format!("{other} is no text"));
                None
            }
        }
    }

    /// A text that must be there and say something.
    pub(super) fn required(&mut self, name: &str) -> String {
        let is_given = self.members.contains_key(name);
        match self.text(name) {
            Some(text) if !text.trim().is_empty() => text,
            None if is_given && self.problem.is_some() => String::new(),
            _ => {
                self.fault(name, "it is missing");
                String::new()
            }
        }
    }

    /// A text, or a number as its text, read by `read`.
    pub(super) fn read<T, E: Display>(&mut self, name: &str, read: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        let text = match self.members.remove(name)? {
            Json::Null => return None,
            Json::String(text) => text,
            Json::Number(number) => number.to_string(),
            other => {
                self.fault(name, format!("{other} is neither text nor number"));
                return None;
            }
        };
        match read(&text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault(name, error.to_string());
                None
            }
        }
    }

    /// Ends the reading: what is left is unknown.
    pub(super) fn finish(mut self, known: &str) -> Result<(), Problem> {
        let left: Vec<String> = self.members.keys().take(100).cloned().collect();
        for name in left {
            self.fault(&name, format!("it is unknown; known are {known}"));
        }
        match self.problem {
            None => Ok(()),
            Some(mut problem) => {
                if problem.detail.is_none() {
                    problem.detail = problem.errors.first().map(|fault| match &fault.place {
                        Place::Pointer(pointer) => format!("{pointer}: {}", fault.detail),
                        _ => fault.detail.clone(),
                    });
                }
                Err(problem)
            }
        }
    }
}

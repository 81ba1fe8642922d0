//! The fleet on one page, for a browser: a single file without anything from elsewhere.

use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use serde_json::json;

use crate::openapi::Route;
use crate::params::NoQuery;

const PAGE: &str = include_str!("../assets/dashboard.html");
/// Nothing may be loaded, only this node asked, and no page may frame it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The route `/`: a page that polls `/v1/status`, `/v1/sites` and `/v1/ledger`.
pub fn dashboard_route<S: Clone + Send + Sync + 'static>() -> Route<S> {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-cache"),
    ];
    Route::get("/", "The dashboard, for a browser", move |_: NoQuery| async move { (headers, PAGE) }).answers_as(
        200,
        "A page that shows the fleet",
        "text/html",
        json!({"type": "string"}),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openapi::Api;
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt;

    #[tokio::test]
    async fn the_page_is_served_under_a_strict_policy() {
        let router = Api::new("test", "0").route(dashboard_route()).into_router();
        let response = router.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
        assert!(response.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().starts_with("default-src 'none'"));
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_never_writes_markup() {
        for forbidden in [
            "http://",
            "https://",
            "//cdn",
            "src=",
            "@import",
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ] {
            assert!(!PAGE.contains(forbidden), "{forbidden}");
        }
        for needed in ["/v1/status", "/v1/sites", "/v1/ledger", "textContent", "prefers-color-scheme"] {
            assert!(PAGE.contains(needed), "{needed}");
        }
        assert!(PAGE.len() < 64 * 1024);
    }
}

//! Error answers in Heroku's form. The one place where failures become HTTP statuses and Heroku's error ids.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::response::{IntoResponse, Response};
use domain::display_chain::display_chain;
use http::{HeaderValue, Method, StatusCode, Uri, header};
use store::StoreError;
use telemetry::log_store::LogStoreError;
use tracing::error;
use wire::platform_api::{ApiErrorBody, NameOnly};

/// An answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    pub status: StatusCode,
    /// Heroku's error id, which clients switch on.
    pub id: &'static str,
    pub message: String,
    pub resource: Option<&'static str>,
    /// After which the same request may be granted.
    pub retry_after: Option<Duration>,
    /// The app that a code of a second factor is for.
    pub app: Option<String>,
}

pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    fn new(status: StatusCode, id: &'static str, message: impl Into<String>) -> Self {
        Self { status, id, message: message.into(), resource: None, retry_after: None, app: None }
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// A request that did not get as far as a handler.
    pub(crate) fn refused(status: StatusCode, message: String) -> Self {
        let id = if status == StatusCode::NOT_FOUND { "not_found" } else { "bad_request" };
        Self::new(status, id, message)
    }

    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "Invalid credentials provided.")
    }

    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// `resource` as Heroku names it: `app`, `release`, `dyno`.
    pub fn not_found(resource: &'static str) -> Self {
        let mut error = Self::new(StatusCode::NOT_FOUND, "not_found", format!("Couldn't find that {resource}."));
        error.resource = Some(resource);
        error
    }

    /// Why there is none, and what to do instead.
    pub(crate) fn not_found_because(resource: &'static str, reason: &str) -> Self {
        let error = Self::not_found(resource);
        Self { message: format!("{} {reason}", error.message), ..error }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_params", message)
    }

    /// Clients ask whoever sits before them, and send the same again with the app's name as `confirm`.
    pub fn confirmation_required(message: impl Into<String>) -> Self {
        Self::new(StatusCode::LOCKED, "confirmation_required", message)
    }

    /// Heroku has it and this server does not. `reason` says why, and what to do instead.
    pub fn unsupported(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "not_supported", reason)
    }

    /// Somebody is not who they say they are, in a browser: nothing is asked for again by the browser itself.
    pub(crate) fn refused_login(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "unauthorized", message)
    }

    /// Somebody else was faster.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_params", message)
    }

    pub fn range(message: impl Into<String>) -> Self {
        Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "requested_range_not_satisfiable", message)
    }

    /// A code of the account's second factor is missing, or wrong.
    pub fn two_factor() -> Self {
        let message = "A code of your authenticator app is needed (again), in the header Heroku-Two-Factor-Code.";
        Self::new(StatusCode::FORBIDDEN, "two_factor", message)
    }

    /// A code is missing that this app asks for. Clients show one to `PUT /apps/:app/pre-authorizations`, and ask again.
    pub fn two_factor_of_app(app: &str) -> Self {
        let message =
            format!("Changes of {app} take a code of your authenticator app: `berth 2fa:authorize --app {app}`.");
        Self { app: Some(app.to_owned()), ..Self::new(StatusCode::FORBIDDEN, "two_factor", message) }
    }

    pub fn rate_limited(message: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit", message)
    }

    /// Says when it is worth trying again.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    pub fn disk_full() -> Self {
        Self::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "insufficient_storage",
            "The server's disk is full; nothing was kept. `berth gc` shows what can be deleted.",
        )
    }

    /// Something of ours failed: logged in full here, told to the client without details.
    pub fn internal(context: &str, cause: &dyn std::error::Error) -> Self {
        error!(error = display_chain(cause), "{context}");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "server_error",
            "Something went wrong inside Berth; the server's log has the details.",
        )
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = ApiErrorBody {
            id: self.id.to_owned(),
            message: self.message,
            resource: self.resource.map(str::to_owned),
            url: None,
            app: self.app.map(|name| NameOnly { name }),
        };
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            // Git sends credentials only after it was asked for them (RFC 9110, 11.6.1 asks for it of everybody).
            let challenge = HeaderValue::from_static("Basic realm=\"Berth\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound(resource) => Self::not_found(resource),
            StoreError::Refused(message) => Self::invalid(message),
            StoreError::Unconfirmed(message) => Self::confirmation_required(message),
            full if full.is_disk_full() => Self::disk_full(),
            orphan if orphan.is_orphan() => Self::conflict(
                "What this request is about was removed at the same moment; nothing was changed. Look again.",
            ),
            other => Self::internal("the database failed a request", &other),
        }
    }
}

impl From<LogStoreError> for ApiError {
    fn from(error: LogStoreError) -> Self {
        Self::internal("the log store failed a request", &error)
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return Self::too_large(rejection.body_text());
        }
        Self::bad_request(rejection.body_text())
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

pub(crate) async fn no_such_route(method: Method, uri: Uri) -> ApiError {
    no_such_route_error(&method, &uri)
}

pub(crate) fn no_such_route_error(method: &Method, uri: &Uri) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "not_found",
        format!("The requested API endpoint was not found: {method} {}", uri.path()),
    )
}

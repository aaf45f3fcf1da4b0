//! Request parts with Heroku's error answers: the app in the path, JSON bodies.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use http::request::Parts;
use serde::de::DeserializeOwned;
use store::app::App;

use crate::auth::ReachedApp;
use crate::error::ApiError;
use crate::state::ApiState;

/// The app that `{app}` in the path names, by name or id.
#[derive(Debug)]
pub(crate) struct TheApp(pub(crate) App);

impl FromRequestParts<Arc<ApiState>> for TheApp {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &Arc<ApiState>) -> Result<Self, Self::Rejection> {
        // Found by whoever decided that this request may reach it.
        let reached = parts.extensions.get::<ReachedApp>().cloned();
        reached.map(|ReachedApp(app)| Self(app)).ok_or_else(|| ApiError::not_found("app"))
    }
}

/// A JSON body. Missing bodies count as `{}`: clients leave them out where every field is optional.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<ApiState>> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &Arc<ApiState>) -> Result<Self, Self::Rejection> {
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            ApiError::too_large(format!("The request body cannot be read: {}", rejection.body_text()))
        })?;
        let bytes = if bytes.is_empty() { Bytes::from_static(b"{}") } else { bytes };
        let Json(value) = Json::from_bytes(&bytes)?;
        Ok(Self(value))
    }
}

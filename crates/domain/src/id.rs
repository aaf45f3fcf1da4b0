//! Typed ids: one newtype per entity, so that a release id is never passed where an app id is meant.

use std::fmt;

use uuid::Uuid;

macro_rules! typed_ids {
    ($($(#[$doc:meta])* $name:ident, $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Draws a fresh random id. Decisions never call this: they are given ids.
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }

            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            pub const fn uuid(self) -> Uuid {
                self.0
            }

            /// Parses the hyphenated form that `Display` prints.
            pub fn parse(text: &str) -> Option<Self> {
                Uuid::try_parse(text).ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, ":{}"), self.0)
            }
        }
    )*};
}

typed_ids! {
    /// A user of the platform.
    AccountId, "account";
    AddOnId, "add-on";
    AppId, "app";
    AppTransferId, "app-transfer";
    AttachmentId, "attachment";
    BuildId, "build";
    CronJobId, "cron-job";
    /// One process under one shim: a web dyno, a worker, a one-off, a release phase or a build.
    DynoId, "dyno";
    CollaboratorId, "collaborator";
    DomainId, "domain";
    /// A certificate that an authority issued for one host.
    ManagedCertificateId, "managed-certificate";
    LogDrainId, "log-drain";
    LogSessionId, "log-session";
    MonitorId, "monitor";
    NotificationId, "notification";
    OauthClientId, "oauth-client";
    PipelineId, "pipeline";
    PipelineCouplingId, "pipeline-coupling";
    PromotionId, "promotion";
    ReleaseId, "release";
    SlugId, "slug";
    SniEndpointId, "sni-endpoint";
    SourceId, "source";
    TokenId, "token";
    WebhookDeliveryId, "webhook-delivery";
    WebhookEventId, "webhook-event";
    WebhookId, "webhook";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_printing_and_parsing() {
        let id = AppId::random();
        assert_eq!(AppId::parse(&id.to_string()), Some(id));
        assert!(format!("{id:?}").starts_with("app:"));
    }

    #[test]
    fn text_that_is_no_uuid_is_no_id() {
        assert_eq!(AppId::parse("shop"), None);
    }
}

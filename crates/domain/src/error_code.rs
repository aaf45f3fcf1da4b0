//! Heroku's error codes with their titles, for the log lines and pages that carry them.

use std::fmt;

macro_rules! error_codes {
    ($($(#[$doc:meta])* $code:ident $title:literal;)*) => {
        /// A code that Heroku documents and this platform can emit. Titles are verbatim.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ErrorCode {
            $($(#[$doc])* $code,)*
        }

        impl ErrorCode {
            pub const ALL: &[Self] = &[$(Self::$code,)*];

            pub const fn code(self) -> &'static str {
                match self { $(Self::$code => stringify!($code),)* }
            }

            pub const fn title(self) -> &'static str {
                match self { $(Self::$code => $title,)* }
            }
        }
    };
}

error_codes! {
    /// No live web process: crashed or timed out while booting.
    H10 "App crashed";
    /// The queue is full or the wait already hopeless.
    H11 "Backlog too deep";
    /// No first byte within 30 s.
    H12 "Request timeout";
    H13 "Connection closed without response";
    /// `web` is scaled to zero.
    H14 "No web processes running";
    H15 "Idle connection";
    H17 "Poorly formatted HTTP response";
    H18 "Server Request Interrupted";
    H19 "Backend connection timeout";
    /// Waited 75 s for a process that is still starting.
    H20 "App boot timeout";
    H21 "Backend connection refused";
    H22 "Connection limit reached";
    /// The router ended in the middle of it.
    H24 "Forced close";
    H25 "HTTP Restriction";
    H26 "Request Error";
    H27 "Client Request Interrupted";
    H28 "Client Connection Idle";
    H31 "Misdirected Request";
    H32 "TLS Certificate Mismatch";
    H33 "HTTP/2 Stream Broken";
    H34 "All up dynos are quarantined";
    H80 "Maintenance mode";
    H81 "Blank app";
    H99 "Platform error";
    R10 "Boot timeout";
    R12 "Exit timeout";
    R13 "Attach error";
    R14 "Memory quota exceeded";
    R15 "Memory quota vastly exceeded";
    R16 "Detached";
    R17 "Checksum error";
    R99 "Platform error";
    L10 "output buffer overflow";
    L11 "Tail buffer overflow";
    L15 "Tail buffer temporarily unavailable";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

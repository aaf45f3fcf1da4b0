//! Is a web dyno ready? Its port is bound and it answered one HTTP request, whatever the status.
//!
//! The probe looks like a request through the router from outside: the app's own `Host`, `X-Forwarded-Proto: https`.
//! Frameworks that check hosts or redirect to https then answer as they would to a visitor.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Pause between attempts: short at first, when most apps come up, longer for slow ones.
const PAUSE_MIN: Duration = Duration::from_millis(25);
const PAUSE_MAX: Duration = Duration::from_millis(250);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// One answer may take this long; a slow first request is normal, a second probe beside it only makes it slower.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Most bytes of an answer that are looked at.
const HEAD_BYTES_MAX: usize = 4096;

/// What happened to a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Probe {
    NotListening,
    Answered {
        status: u16,
    },
    /// Connected, but what came back is not HTTP, or nothing came.
    NotHttp(String),
}

/// Probes until the dyno is ready and gives the status. `seen` hears of every attempt, for the boot timeout's words.
pub(crate) async fn wait(address: SocketAddr, host: &str, mut seen: impl FnMut(&Probe)) -> u16 {
    let mut pause = PAUSE_MIN;
    loop {
        let probe = probe(address, host).await;
        seen(&probe);
        if let Probe::Answered { status } = probe {
            return status;
        }
        sleep(pause).await;
        pause = (pause * 3 / 2).min(PAUSE_MAX);
    }
}

async fn probe(address: SocketAddr, host: &str) -> Probe {
    let Ok(Ok(mut stream)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await else {
        return Probe::NotListening;
    };
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\n\
         User-Agent: Berth-Readiness-Probe\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    let exchange = async {
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.contains(&b'\n') && head.len() < HEAD_BYTES_MAX {
            if stream.read_buf(&mut head).await? == 0 {
                break;
            }
        }
        Ok::<_, std::io::Error>(head)
    };
    match timeout(ANSWER_TIMEOUT, exchange).await {
        Ok(Ok(head)) => read_status(&head),
        Ok(Err(error)) => Probe::NotHttp(format!("it closed the connection ({error})")),
        Err(_elapsed) => Probe::NotHttp(format!("it sent no answer within {} s", ANSWER_TIMEOUT.as_secs())),
    }
}

fn read_status(head: &[u8]) -> Probe {
    if head.is_empty() {
        return Probe::NotHttp("it closed the connection without an answer".to_owned());
    }
    let line = String::from_utf8_lossy(head.split(|&byte| byte == b'\n').next().unwrap_or_default());
    let mut words = line.trim_end().splitn(3, ' ');
    let version = words.next().unwrap_or_default();
    let status = words.next().and_then(|word| word.parse::<u16>().ok()).filter(|status| (100..600).contains(status));
    match status {
        Some(status) if version.starts_with("HTTP/1.") => Probe::Answered { status },
        Some(_) | None => {
            let shown: String = line.chars().filter(|c| !c.is_control()).take(60).collect();
            Probe::NotHttp(format!("its answer is not HTTP: {shown:?}"))
        }
    }
}

/// What a surprising status of the probe probably means, for the app's log.
pub(crate) fn hint(status: u16, host: &str) -> Option<String> {
    let cause = match status {
        400 => format!("frameworks that check hosts (Django's ALLOWED_HOSTS) must accept {host}"),
        301 | 302 | 307 | 308 => return None,
        403 => format!("the app refuses a plain visitor at / of {host}: check host, CSRF and IP rules"),
        500..=599 => "visitors will see this error until the app is repaired".to_owned(),
        _fine => return None,
    };
    Some(format!("The first request, GET / with Host: {host}, was answered with {status}; {cause}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_makes_a_dyno_ready() {
        assert_eq!(read_status(b"HTTP/1.1 200 OK\r\n"), Probe::Answered { status: 200 });
        assert_eq!(read_status(b"HTTP/1.0 404\r\n"), Probe::Answered { status: 404 });
        for garbage in [b"".as_slice(), b"SSH-2.0-x\r\n", b"HTTP/1.1 xx\r\n", b"HTTP/2 200\n", b"HTTP/1.1 99 x\n"] {
            assert!(matches!(read_status(garbage), Probe::NotHttp(_)), "{garbage:?}");
        }
    }

    #[test]
    fn a_refused_host_is_explained() {
        assert!(hint(400, "shop.example").is_some_and(|text| text.contains("ALLOWED_HOSTS")));
        assert_eq!(hint(200, "shop.example"), None);
    }
}

//! Servers with single-request workers.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::spawn_local;
use tokio::time::sleep;

use crate::number;

/// What many servers ask the kernel for.
const BACKLOG: u32 = 2_048;

pub(crate) async fn dynos(descriptions: &[String]) {
    let workers = Rc::new(Cell::new(None));
    for description in descriptions {
        let mut parts = description.split(':');
        let (port, own, ms) = (number(parts.next()), number::<usize>(parts.next()), number(parts.next()));
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option");
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).expect("a free port");
        let listener = Rc::new(socket.listen(BACKLOG).expect("a listener"));
        for index in 0..64 {
            spawn_local(worker(listener.clone(), index, own, workers.clone(), Duration::from_millis(ms)));
        }
    }
    let mut input = tokio::io::stdin();
    let mut line = [0; 64];
    loop {
        match input.read(&mut line).await {
            Ok(count) if count > 0 => {
                workers.set(std::str::from_utf8(&line[..count]).unwrap_or("").trim().parse().ok());
            }
            _end => sleep(Duration::from_secs(3600)).await,
        }
    }
}

/// Takes one connection at a time, and one request of it, as a synchronous worker does.
async fn worker(listener: Rc<TcpListener>, index: usize, own: usize, workers: Rc<Cell<Option<usize>>>, work: Duration) {
    let mut head = vec![0; 8192];
    loop {
        if index >= workers.get().unwrap_or(own) {
            sleep(Duration::from_millis(20)).await;
            continue;
        }
        let Ok((mut stream, _peer)) = listener.accept().await else { continue };
        let mut length = 0;
        while !head[..length].ends_with(b"\r\n\r\n") {
            match stream.read(&mut head[length..]).await {
                Ok(count) if count > 0 => length += count,
                _end => break,
            }
        }
        if length == 0 {
            continue;
        }
        sleep(work).await;
        // Whoever asked may be gone; the work was done all the same.
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await);
    }
}

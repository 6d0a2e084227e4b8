//! One HTTP GET: in goes an address and a path, out come status code and body.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks `http://127.0.0.1:<port><path>`; the connection is used once.
///
/// # Errors
/// When nothing answers within ten seconds, or not in HTTP.
pub async fn get(port: u16, path: &str) -> Result<(u16, String)> {
    let answer = timeout(TIMEOUT, exchange(port, path)).await;
    let answer = answer.map_err(|_| anyhow!("no answer"))??;
    parse(&answer).with_context(|| format!("GET {path} on port {port}: not HTTP"))
}

async fn exchange(port: u16, path: &str) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}

fn parse(answer: &[u8]) -> Option<(u16, String)> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let code = head.split_whitespace().nth(1)?.parse().ok()?;
    Some((code, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let answer = b"HTTP/1.0 503 Service Unavailable\r\na: b\r\n\r\nnot ready";
        assert_eq!(parse(answer), Some((503, "not ready".to_owned())));
        assert_eq!(parse(b"garbage"), None);
    }
}

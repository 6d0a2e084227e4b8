//! `tributary-wire-proxy`: records what a client and a MySQL server say to each other. In: the server's port; out: a
//! transcript when it is ended.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tributary_tests::wire::{Hide, WireProxy, conversations};

/// Stands between a client and a MySQL server on 127.0.0.1, and writes down what passes.
#[derive(Debug, Parser)]
#[command(name = "tributary-wire-proxy", version)]
struct Arguments {
    /// Port of the server
    upstream: u16,
    /// Port for the client; a free one, printed, without this
    #[arg(long, default_value_t = 0)]
    listen: u16,
    /// File for the transcript; standard output without this
    #[arg(long)]
    out: Option<PathBuf>,
    /// Write statements and answers in the form of dump-server/tests/fixtures/conversations.txt, for a client of this name
    #[arg(long, value_name = "CLIENT")]
    fixture: Option<String>,
    /// Leave TLS and compression in the server's greeting
    #[arg(long)]
    hide_nothing: bool,
}

async fn run(arguments: Arguments) -> Result<()> {
    let hide = if arguments.hide_nothing {
        Hide::Nothing
    } else {
        Hide::Both
    };
    let proxy = WireProxy::start_at(arguments.listen, arguments.upstream, hide).await?;
    eprintln!(
        "127.0.0.1:{} leads to {}; Ctrl-C ends",
        proxy.port(),
        arguments.upstream
    );
    tokio::signal::ctrl_c().await?;
    let transcript = proxy.transcript();
    let text = match &arguments.fixture {
        Some(client) => conversations(&[(client.as_str(), &transcript)]),
        None => transcript.to_string(),
    };
    match &arguments.out {
        Some(path) => std::fs::write(path, text).with_context(|| path.display().to_string()),
        None => {
            #[allow(clippy::print_stdout, reason = "a command line prints its results")]
            {
                print!("{text}");
            }
            Ok(())
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

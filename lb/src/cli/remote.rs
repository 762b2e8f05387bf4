//! The commands that ask a running balancer.

use std::{
    num::{NonZeroU64, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use anyhow::anyhow;
use clap::Subcommand;
use http::Method;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{
    Failure,
    answers::Pool,
    client::{Admin, Client, ClientError, encoded},
    follow, render, say,
};

/// A reload waits for no replica.
const RELOAD_PATIENCE: Duration = Duration::from_secs(30);

/// How long the balancer may take to say that an upgrade was late.
const UPGRADE_MARGIN: Duration = Duration::from_secs(10);

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Lists the replicas of a pool.
    Rep(Asking),
    /// Adds replicas, and waits until they serve.
    Add {
        /// How many, then their names; names that are missing are generated.
        #[arg(value_name = "N|NAME")]
        replicas: Vec<String>,
        #[command(flatten)]
        change: Change,
    },
    /// Removes replicas, and waits until they are drained and gone.
    Rm {
        /// How many, then their names; without names, those that are missed least.
        #[arg(value_name = "N|NAME")]
        replicas: Vec<String>,
        #[command(flatten)]
        change: Change,
    },
    /// Drains a replica, starts it again, and waits until it serves.
    Restart {
        /// Which one.
        name: String,
        #[command(flatten)]
        change: Change,
    },
    /// Shows what a change would move, and changes nothing.
    Plan {
        #[command(flatten)]
        step: Step,
        #[command(flatten)]
        asking: Asking,
    },
    /// Shows which replica a key goes to, and why.
    Explain {
        /// The key, as the pool takes it from requests.
        key: String,
        #[command(flatten)]
        asking: Asking,
    },
    /// Shows a pool and how its replicas are; fails if one that is wanted does not serve.
    Status(Asking),
    /// Makes the balancer read its configuration again; if it is bad, nothing changes.
    Reload {
        /// Shows what would change, and changes nothing.
        #[arg(long)]
        dry_run: bool,
        /// Prints the API's JSON as it is.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        reach: Reach,
    },
    /// Has another binary take over while requests are served; if it does not, the balancer goes on as it was.
    Upgrade {
        /// The program; without one, that which the balancer was started from.
        #[arg(long, value_name = "PATH")]
        binary: Option<PathBuf>,
        /// How long it may take until it has taken over.
        #[arg(
            long, value_name = "SECONDS", default_value = "30", value_parser = clap::value_parser!(u32).range(1..=3600)
        )]
        timeout: u32,
        /// Prints the API's JSON as it is.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        reach: Reach,
    },
    /// Follows what happens to replicas, until it is interrupted.
    Events {
        /// Begins after the event of this id; 0 for all that are kept.
        #[arg(long, value_name = "ID")]
        since: Option<u64>,
        /// Prints the API's JSON as it is, an event a line.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        reach: Reach,
    },
}

/// How a running balancer is reached.
#[derive(Debug, clap::Args)]
pub(super) struct Reach {
    /// The balancer's admin listener [default: http://127.0.0.1:5001].
    #[arg(long, env = "RINGMASTER_ADMIN", value_name = "URL")]
    admin: Option<Admin>,
    /// Sends the token in this file.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Reach {
    /// Whether somebody says where the balancer is.
    pub(super) fn is_named(&self) -> bool {
        self.admin.is_some()
    }

    /// `otherwise` is where the balancer is when nobody says.
    pub(super) fn client(self, otherwise: Admin) -> Result<Client, Failure> {
        let client = Client::new(self.admin.unwrap_or(otherwise), self.token_file.as_deref());
        client.map_err(|error| Failure::Usage(error.to_string()))
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct Asking {
    /// Which pool.
    #[arg(long, default_value = "default")]
    pool: String,
    /// Prints the API's JSON as it is.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, clap::Args)]
pub(super) struct Change {
    /// Shows what it would move, and changes nothing.
    #[arg(long)]
    dry_run: bool,
    /// How long to wait until it is true. A change goes on when nobody waits.
    #[arg(long, value_name = "SECONDS", default_value = "120")]
    timeout: NonZeroU64,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Step {
    /// Adds so many.
    #[arg(long, value_name = "N")]
    add: Option<NonZeroUsize>,
    /// Removes these.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    remove: Vec<String>,
}

/// Asks, and prints the answer.
pub(super) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Rep(asking) => {
            let target = asking.target()?;
            target.print(&target.get("/replicas").await?, render::replicas)
        }
        Command::Add { replicas, change } => {
            change.make(Method::POST, "/replicas", selection(&replicas)?).await
        }
        Command::Rm { replicas, change } => {
            change.make(Method::DELETE, "/replicas", selection(&replicas)?).await
        }
        Command::Restart { name, change } => {
            let path = format!("/replicas/{}/restart", encoded(&name));
            change.make(Method::POST, &path, String::new()).await
        }
        Command::Plan { step, asking } => {
            let target = asking.target()?;
            target.print(&target.get(&step.path()).await?, render::plan)
        }
        Command::Explain { key, asking } => {
            let target = asking.target()?;
            let answer = target.get(&format!("/explain?key={}", encoded(&key))).await?;
            target.print(&answer, render::explain)
        }
        Command::Status(asking) => status(&asking.target()?).await,
        Command::Reload { dry_run, json, reach } => {
            let client = reach.client(Admin::default())?;
            let path = format!("/api/v1/reload?dry_run={dry_run}");
            let answer = client.ask(Method::POST, &path, String::new(), RELOAD_PATIENCE).await?;
            let target = Target { client, base: String::new(), json };
            target.print(&answer, render::reloaded)
        }
        Command::Upgrade { binary, timeout, json, reach } => {
            // The balancer has a working directory of its own.
            let binary = binary.map(std::path::absolute).transpose();
            let binary = binary.map_err(|error| Failure::Usage(format!("--binary: {error}")))?;
            let client = reach.client(Admin::default())?;
            let body = json!({ "binary": binary, "timeout_s": timeout }).to_string();
            let patience = Duration::from_secs(timeout.into()) + UPGRADE_MARGIN;
            let answer = client.ask(Method::POST, "/api/v1/upgrade", body, patience).await?;
            let target = Target { client, base: String::new(), json };
            target.print(&answer, render::upgraded)
        }
        Command::Events { since, json, reach } => {
            follow::follow(&reach.client(Admin::default())?, since, json).await
        }
    }
}

async fn status(target: &Target) -> Result<(), Failure> {
    let pool: Pool = target.client.parse(&target.get("").await?)?;
    let answer = target.get("/replicas").await?;
    target.print(&answer, |replicas| render::status(&pool, &replicas))?;
    let (serving, wanted) = (pool.actual.serving, pool.wanted);
    if serving < wanted {
        let message = format!("pool {}: {serving} of {wanted} wanted replicas serve", pool.name);
        return Err(anyhow!(message).into());
    }
    Ok(())
}

/// A pool, and how its answers are printed.
struct Target {
    client: Client,
    /// Before every path.
    base: String,
    json: bool,
}

impl Asking {
    fn target(self) -> Result<Target, Failure> {
        Ok(Target {
            client: self.reach.client(Admin::default())?,
            base: format!("/api/v1/pools/{}", encoded(&self.pool)),
            json: self.json,
        })
    }
}

impl Target {
    async fn get(&self, path: &str) -> Result<String, ClientError> {
        self.client.get(&format!("{}{path}", self.base)).await
    }

    fn print<T: DeserializeOwned>(
        &self,
        answer: &str,
        text: impl FnOnce(T) -> String,
    ) -> Result<(), Failure> {
        if self.json {
            say(&format!("{answer}\n"));
        } else {
            say(&text(self.client.parse(answer)?));
        }
        Ok(())
    }
}

impl Change {
    /// Asks for it, and shows what is there once it is true; or what it would move.
    async fn make(self, method: Method, path: &str, body: String) -> Result<(), Failure> {
        let target = self.asking.target()?;
        let dry_run = if self.dry_run { "?dry_run=true" } else { "" };
        let path = format!("{}{path}{dry_run}", target.base);
        let patience = Duration::from_secs(self.timeout.get());
        let answer = target.client.ask(method, &path, body, patience).await?;
        if self.dry_run {
            target.print(&answer, render::plan)
        } else {
            target.print(&answer, render::replicas)
        }
    }
}

impl Step {
    fn path(&self) -> String {
        match self.add {
            Some(n) => format!("/plan?add={n}"),
            None => format!("/plan?remove={}", encoded(&self.remove.join(","))),
        }
    }
}

/// The body of a change: how many replicas, where the first word is a number, and the names that follow.
fn selection(words: &[String]) -> Result<String, Failure> {
    let (n, names) = match words {
        [first, names @ ..] => match first.parse::<u32>() {
            Ok(0) => {
                let message = "0 is no change: say how many replicas, 1 or more, or their names";
                return Err(Failure::Usage(message.to_owned()));
            }
            Ok(n) => (Some(n), names),
            Err(_) => (None, words),
        },
        [] => (None, words),
    };
    Ok(json!({ "n": n, "names": names }).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_names_select_replicas() {
        let selected = |words: &[&str]| {
            selection(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>()).ok()
        };
        for (words, body) in [
            (&[][..], r#"{"n":null,"names":[]}"#),
            (&["2"], r#"{"n":2,"names":[]}"#),
            (&["A", "7"], r#"{"n":null,"names":["A","7"]}"#),
            (&["1", "7"], r#"{"n":1,"names":["7"]}"#),
        ] {
            assert_eq!(selected(words).as_deref(), Some(body));
        }
        assert_eq!(selected(&["0"]), None);
    }
}

//! Every experiment with a description of its own, one after the other, failover, and the comparison.
//!
//! Each is done as its command does it when it is given no arguments, and leaves its files in a folder of its own. Those
//! that ask a running balancer ask one of ours. One that fails does not keep the others from being done.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::{
    Report, a1, a3,
    balancer::{Balancer, Setup},
    compare, failover,
    report::{HTML, MARKDOWN, page, section},
    run_dir::RunDir,
    sweep,
};

const TITLE: &str = "Ringmaster, measured";

/// As in the configuration that comes with the balancer.
const REPLICAS: u32 = 3;

/// A replica that is killed again and again for no fault of its own is not to wait longer each time.
const POOL: &str = "backoff: { healthy_after_ms: 1000 }";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often each peer does each load of the comparison
    #[arg(long, default_value_t = 3)]
    rounds: u32,

    /// How long each load of the comparison lasts
    #[arg(long, value_name = "S", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,

    /// Directory for the results, without those of another run [default: results/all-SECONDS]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// An experiment among all.
#[derive(Clone, Copy)]
enum Part {
    A1,
    A2,
    A3,
    A4,
    Failover,
    Compare,
}

impl Part {
    const ALL: [Self; 6] = [Self::A1, Self::A2, Self::A3, Self::A4, Self::Failover, Self::Compare];

    /// Its command, and its folder.
    fn name(self) -> &'static str {
        match self {
            Self::A1 => "a1",
            Self::A2 => "a2",
            Self::A3 => "a3",
            Self::A4 => "a4",
            Self::Failover => "failover",
            Self::Compare => "compare",
        }
    }

    async fn run(self, args: &Args, out: &Path) -> anyhow::Result<Report> {
        let out = out.display().to_string();
        match self {
            Self::A1 => {
                let balancer = balancer().await?;
                let target = balancer.target().to_string();
                a1::run(parsed(&["--target", &target, "--out", &out])?).await
            }
            Self::A2 => sweep::run(parsed(&["--out", &out])?, &sweep::A2).await,
            Self::A3 => a3::run(parsed(&["--out", &out])?).await,
            Self::A4 => sweep::run(parsed(&["--out", &out])?, &sweep::A4).await,
            Self::Failover => {
                let balancer = balancer().await?;
                let (target, admin) = (balancer.target().to_string(), balancer.admin().to_string());
                let arguments = ["--target", &target, "--admin", &admin, "--out", &out];
                failover::run(parsed(&arguments)?).await
            }
            Self::Compare => {
                let (rounds, seconds) = (args.rounds.to_string(), args.seconds.to_string());
                let arguments = ["--rounds", &rounds, "--seconds", &seconds, "--out", &out];
                compare::run(parsed(&arguments)?).await
            }
        }
    }
}

/// Does them all, and draws one report.
pub(crate) async fn run(args: Args) -> anyhow::Result<Report> {
    let dir = RunDir::open(args.out.clone(), "all")?;
    let (mut text, mut kept) = (String::new(), true);
    let mut markdown = format!("# {TITLE}\n");
    for part in Part::ALL {
        let name = part.name();
        eprintln!("ringmaster-loadtest: {name}");
        let (told, drawn) = match part.run(&args, &dir.path(name)).await {
            Ok(report) => {
                kept &= report.kept;
                let drawn = RunDir::open(Some(dir.path(name)), name)?
                    .read(MARKDOWN, |text| Ok(section(text, name)))?;
                (report.text, drawn)
            }
            Err(error) => {
                kept = false;
                let told = format!("was not done: {error:#}\n");
                (told.clone(), format!("## {name}\n\n{told}"))
            }
        };
        text += &format!("== {name}\n{told}");
        markdown += &format!("\n{drawn}");
    }
    dir.write(HTML, &page(TITLE, &markdown))?;
    dir.write(MARKDOWN, &markdown)?;
    Ok(Report { text: text + &dir.signpost(), kept })
}

/// One of ours, as it is without a configuration of one's own but for [`POOL`].
async fn balancer() -> anyhow::Result<Balancer> {
    let pool = serde_yaml::from_str(POOL).context("reading the balancer's pool")?;
    Balancer::start(Setup { replicas: REPLICAS, pool, ..Setup::default() }).await
}

/// What a command makes of `arguments`: what they leave out is as on its own command line.
fn parsed<A: clap::Args>(arguments: &[&str]) -> anyhow::Result<A> {
    let command = A::augment_args(clap::Command::new("all").no_binary_name(true));
    Ok(A::from_arg_matches(&command.try_get_matches_from(arguments)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_without_arguments_is_known() {
        let out = ["--out", "x"];
        assert!(parsed::<a1::Args>(&out).is_ok());
        assert!(parsed::<failover::Args>(&out).is_ok());
        assert!(parsed::<compare::Args>(&["--no-such-flag"]).is_err());
    }
}

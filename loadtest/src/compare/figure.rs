//! One measured figure, and the table of all of them.

use anyhow::Context;
use clap::ValueEnum;

use super::peer::Peer;
use crate::csv;

/// What one round found of one peer under one load.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figure {
    pub(super) round: u32,
    pub(super) load: String,
    pub(super) measure: String,
    pub(super) peer: Peer,
    pub(super) value: f64,
}

const HEADER: [&str; 5] = ["round", "load", "measure", "peer", "value"];

impl Figure {
    pub(super) fn to_csv(figures: &[Self]) -> anyhow::Result<String> {
        let row = |it: &Self| {
            [
                it.round.to_string(),
                it.load.clone(),
                it.measure.clone(),
                it.peer.to_string(),
                it.value.to_string(),
            ]
        };
        csv::write(HEADER, figures.iter().map(row))
    }

    pub(super) fn from_csv(text: &str) -> anyhow::Result<Vec<Self>> {
        csv::read(text, HEADER, |[round, load, measure, peer, value]| {
            Ok(Self {
                round: round.parse().context("round")?,
                load: load.into(),
                measure: measure.into(),
                peer: Peer::from_str(peer, false).map_err(anyhow::Error::msg)?,
                value: value.parse().context("value")?,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_as_it_was_written() {
        let figure = |peer, value| Figure {
            round: 1,
            load: "json".into(),
            measure: "cpu_us".into(),
            peer,
            value,
        };
        let figures: Vec<_> = Peer::ALL.into_iter().map(|peer| figure(peer, 1.25)).collect();
        assert_eq!(Figure::from_csv(&Figure::to_csv(&figures).unwrap()).unwrap(), figures);
    }
}

use std::{fs, path::Path};

use super::TARGETS;

/// Inputs made from each corpus.
const MUTATIONS: usize = 20_000;

/// A seed of its own for each machine that looks for something new; always the same one otherwise.
fn seed() -> u64 {
    std::env::var("RINGMASTER_SEED").ok().and_then(|it| it.parse().ok()).unwrap_or(1)
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
struct Dice(u64);

impl Dice {
    fn throw(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % below.max(1) as u64) as usize
    }

    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let begin = self.throw(length + 1);
        begin..begin + self.throw(length - begin + 1).min(32)
    }
}

/// Some of what `seeds` have, cut, joined, repeated and changed.
fn mutated(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    const TELLING: &[u8] = b"\r\n\0\t :;,%\"'\\{}[]#&*!|>-0123456789afAFx\xff\xc3\x80";
    let mut bytes = seeds[dice.throw(seeds.len())].clone();
    for _ in 0..=dice.throw(4) {
        let range = dice.range(bytes.len());
        match dice.throw(6) {
            0 => drop(bytes.drain(range)),
            1 => bytes.truncate(range.start),
            2 => {
                let again = bytes[range.clone()].repeat(1 + dice.throw(3));
                bytes.splice(range.end..range.end, again);
            }
            3 => {
                let other = &seeds[dice.throw(seeds.len())];
                let part = other[dice.range(other.len())].to_vec();
                bytes.splice(range, part);
            }
            4 => bytes.insert(range.start, TELLING[dice.throw(TELLING.len())]),
            _ => {
                if let Some(byte) = bytes.get_mut(range.start) {
                    *byte = match dice.throw(3) {
                        0 => *byte ^ (1 << dice.throw(8)),
                        1 => TELLING[dice.throw(TELLING.len())],
                        _ => dice.throw(256) as u8,
                    };
                }
            }
        }
    }
    bytes
}

/// Runs `target`, and says which bytes it did not stand.
fn try_out(name: &str, target: fn(&[u8]), bytes: &[u8]) {
    let stood = std::panic::catch_unwind(|| target(bytes));
    assert!(stood.is_ok(), "{name} does not stand {:?}", bytes.escape_ascii().to_string());
}

#[test]
fn every_target_stands_its_corpus_and_what_is_made_of_it() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for (name, target) in TARGETS {
        let mut files: Vec<_> =
            fs::read_dir(corpora.join(name)).unwrap().map(|it| it.unwrap().path()).collect();
        files.sort();
        let seeds: Vec<_> = files.iter().map(|it| fs::read(it).unwrap()).collect();
        assert!(!seeds.is_empty(), "{name} has no corpus");
        seeds.iter().for_each(|bytes| try_out(name, target, bytes));
        let mut dice = Dice(seed());
        for _ in 0..MUTATIONS {
            try_out(name, target, &mutated(&seeds, &mut dice));
        }
    }
}

#[test]
fn every_corpus_has_its_target() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let mut names: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.sort();
    for (folder, end) in [("seeds", ""), ("fuzz_targets", ".rs")] {
        let mut found: Vec<_> = fs::read_dir(fuzz.join(folder))
            .unwrap()
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .map(|it| it.strip_suffix(end).unwrap().to_owned())
            .collect();
        found.sort();
        assert_eq!(found, names, "{folder}");
    }
}

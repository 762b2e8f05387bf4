//! Ids of requests: drawn for those that bring none.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use http::HeaderValue;
use pingora::http::RequestHeader;
use uuid::Builder;

use super::forward::X_REQUEST_ID;

/// The longest id that is believed.
const ID_BYTES_MAX: usize = 128;

/// A source of ids. Not secret: who sees one can guess the next.
#[derive(Debug)]
pub(super) struct Ids(AtomicU64);

impl Ids {
    pub(super) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// A uniformly drawn number: SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators",
    /// OOPSLA 2014), whose state is a plain sum and so needs no lock.
    pub(super) fn draw(&self) -> u64 {
        const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.0.fetch_add(GAMMA, Ordering::Relaxed).wrapping_add(GAMMA);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Six decimal digits, the first not 0.
    pub(super) fn six_digits(&self) -> [u8; 6] {
        let mut number = 100_000 + self.draw() % 900_000;
        let mut digits = [0; 6];
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
        digits
    }

    /// The request's own id if a trusted proxy brought it and it is sane, else a new UUIDv7.
    pub(super) fn request_id(&self, request: &RequestHeader, trusted: bool) -> HeaderValue {
        match request.headers.get(X_REQUEST_ID) {
            Some(id) if trusted && is_sane(id.as_bytes()) => id.clone(),
            Some(_) | None => self.uuid(),
        }
    }

    fn uuid(&self) -> HeaderValue {
        let unix_time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.draw().to_le_bytes());
        random[8..].copy_from_slice(&self.draw().to_le_bytes()[..2]);
        let uuid =
            Builder::from_unix_timestamp_millis(unix_time.as_millis() as u64, &random).into_uuid();
        let mut text = [0; 36];
        HeaderValue::from_str(uuid.hyphenated().encode_lower(&mut text))
            .unwrap_or(HeaderValue::from_static("none"))
    }
}

fn is_sane(id: &[u8]) -> bool {
    (1..=ID_BYTES_MAX).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_ids_have_six_digits() {
        let ids = Ids::new(1);
        for _ in 0..1_000 {
            let number: u32 = std::str::from_utf8(&ids.six_digits()).unwrap().parse().unwrap();
            assert!((100_000..1_000_000).contains(&number));
        }
    }

    #[test]
    fn an_id_is_kept_only_if_sane_and_from_a_trusted_proxy() {
        let ids = Ids::new(1);
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        request.insert_header(X_REQUEST_ID, "abc-1").unwrap();
        assert_eq!(ids.request_id(&request, true), "abc-1");
        assert_ne!(ids.request_id(&request, false), "abc-1");
        for bad in ["", "a b", &"x".repeat(ID_BYTES_MAX + 1)] {
            request.insert_header(X_REQUEST_ID, bad).unwrap();
            assert_eq!(ids.request_id(&request, true).len(), 36, "{bad}");
        }
    }
}

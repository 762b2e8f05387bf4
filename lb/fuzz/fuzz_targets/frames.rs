#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringmaster::fuzzing::target("frames")(bytes));

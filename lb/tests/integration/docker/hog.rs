//! A program for a replica's container: takes memory until the kernel ends the replica for it.

fn main() {
    // The kernel chooses by size, which would be this process, unless told otherwise.
    std::fs::write("/proc/1/oom_score_adj", "1000").expect("it is of the same user");
    let mut taken = Vec::new();
    loop {
        taken.push(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
}

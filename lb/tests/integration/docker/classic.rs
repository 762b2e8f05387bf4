//! The classic assignment, with the provider that it means.

use crate::examples;

#[tokio::test]
async fn the_example_is_what_the_assignment_asks_for() {
    examples::the_classic_example_with_containers().await;
}

//! The network of the replicas goes with the balancer that created it, once nobody uses it.

use crate::harness::{
    Balancer,
    docker::{Lab, docker},
};

#[tokio::test]
async fn a_network_is_removed_by_who_created_it_once_nobody_uses_it() {
    let Some(lab) = Lab::open() else { return };
    let name = lab.name("guest");
    let create: &[&str] = &["create", "--name", &name, "--network", &lab.id, &lab.id];
    let run: &[&str] = &["run", "-d", "--name", &name, "--network", &lab.id, &lab.id];
    for (what, is_ours, guest, stays) in [
        ("created by the balancer", true, None, false),
        ("created by somebody else", false, None, true),
        ("with a container that runs", true, Some(run), true),
        ("with a container that does not", true, Some(create), true),
    ] {
        if !is_ours {
            docker(&["network", "create", &lab.id]);
        }
        let pool = format!("replicas: 1, names: {:?}", lab.names(1));
        let balancer = Balancer::start(&lab.config(&pool, &lab.image())).await;
        let before = lab.networks();
        assert_ne!(before, "", "{what}");
        if let Some(guest) = guest {
            docker(guest);
        }
        balancer.stop().await;
        assert_eq!(lab.networks(), if stays { &*before } else { "" }, "{what}");
        assert_eq!(lab.claims(), [""; 0], "{what}");
        if guest.is_some() {
            docker(&["rm", "-f", &name]);
        }
        if stays {
            docker(&["network", "rm", &lab.id]);
        }
    }
}

#[tokio::test]
async fn a_name_is_not_mistaken_for_the_beginning_of_an_id() {
    let Some(lab) = Lab::open() else { return };
    let id = docker(&["network", "create", &lab.id]);
    let other = docker(&["run", "-d", "--name", &lab.name("x"), "--network", "none", &lab.id]);
    // The engine would find that network and that container by these names.
    let (network, name) = (&id[..12], &other[..12]);
    let pool = format!("replicas: 1, names: ['{name}']");
    let keys = format!("{}, network: '{network}'", lab.image());
    let balancer = Balancer::start(&lab.config(&pool, &keys)).await;
    assert_eq!(lab.containers(), [name]);
    balancer.stop().await;
    assert_eq!(lab.networks().len(), 12, "it is there still");
    docker(&["inspect", &other]);
}

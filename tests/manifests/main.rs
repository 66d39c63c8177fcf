//! The manifests against the program: what statefulset/ and k8s/ say is what pulk knows, serves and
//! needs. `.ci/deploy` builds them, looks whether Kubernetes would take them, and runs this:
//!
//! ```sh
//! PULK_MANIFESTS=DIR cargo test --test manifests -- --include-ignored
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "a test ends at the first surprise"
)]

#[path = "../node/mod.rs"]
mod node;
#[path = "../program/mod.rs"]
mod program;

mod built;
mod metrics;
mod pods;
mod wiring;

use std::collections::BTreeSet;

use built::overlays;
use node::Node;
use program::pulk;

/// The variables that the program reads.
fn known_variables() -> BTreeSet<String> {
    let help = pulk(&["serve", "--help"], &[]).stdout;
    let named = help.split("[env: ").skip(1);
    named.map(|rest| rest.split(['=', ']']).next().unwrap().to_owned()).collect()
}

#[test]
#[ignore = "needs the built manifests: .ci/deploy"]
fn every_variable_is_one_that_the_program_reads_and_has_a_value_that_it_takes() {
    let known = known_variables();
    assert!(known.len() > 20, "{known:?}");
    for overlay in overlays() {
        for pool in overlay.pools() {
            let name = format!("{}: {}", overlay.name, pool.name);
            let mut environment = pool.environment(0);
            for ingredient in pool.ingredients() {
                assert!(!known.contains(ingredient), "{name}: {ingredient} is a setting");
                environment.remove(ingredient);
            }
            for variable in environment.keys() {
                assert!(known.contains(variable), "{name}: the program has no {variable}");
            }
            let environment: Vec<(&str, &str)> =
                environment.iter().map(|(name, value)| (&**name, &**value)).collect();
            let mut arguments =
                pool.pulk.args.iter().flatten().map(String::as_str).collect::<Vec<_>>();
            assert_eq!(arguments, ["serve"]);
            arguments.push("--print-config");
            let ended = pulk(&arguments, &environment);
            assert_eq!((ended.code, &*ended.stderr), (0, ""), "{name}: {ended:?}");
        }
    }
}

/// Ids are made distinct by the shard: over all pods of all pools that may ever be there at once.
#[test]
#[ignore = "needs the built manifests: .ci/deploy"]
fn no_two_pods_have_one_shard() {
    for overlay in overlays() {
        let mut seen = BTreeSet::new();
        for pool in overlay.pools() {
            for ordinal in 0..pool.most_pods.unwrap_or(1_000).max(1_000) {
                let shard: u16 = pool.environment(ordinal)["PULK_SHARD"].parse().unwrap();
                let at = format!("{}: {}-{ordinal}", overlay.name, pool.name);
                assert!(seen.insert(shard), "{at}: another pod has the shard {shard}");
            }
        }
    }
}

#[tokio::test]
#[ignore = "needs the built manifests: .ci/deploy"]
async fn every_path_is_served() {
    let node = Node::start_with(["--store", "memory"]).await;
    let mut paths = BTreeSet::new();
    for overlay in overlays() {
        for pool in overlay.pools() {
            let pulk = &pool.pulk;
            for probe in [&pulk.startup_probe, &pulk.readiness_probe, &pulk.liveness_probe] {
                let get = probe.as_ref().unwrap().http_get.as_ref().unwrap();
                assert_eq!(get.port, pods::named("http"), "{}", overlay.name);
                paths.insert(get.path.clone().unwrap());
            }
        }
    }
    for monitor in built::all().iter().flat_map(|built| built.custom("ServiceMonitor")) {
        paths.insert(monitor["spec"]["endpoints"][0]["path"].as_str().unwrap().to_owned());
    }
    assert!(paths.len() >= 4, "{paths:?}");
    for path in paths {
        assert_eq!(node.http.get(&path).await.status, 200, "{path}");
    }
}

/// KEDA reads a number at this place of the answer of this port.
#[tokio::test]
#[ignore = "needs the built manifests: .ci/deploy"]
async fn what_an_autoscaler_asks_for_is_answered_by_a_number() {
    let node = Node::start_with(["--store", "memory"]).await;
    let mut asked = 0;
    for overlay in overlays() {
        for scaled in overlay.custom("ScaledObject") {
            let pool = scaled["spec"]["scaleTargetRef"]["name"].as_str().unwrap();
            let port = overlay.pools().iter().find(|it| it.name == pool).unwrap().port("http");
            let trigger = &scaled["spec"]["triggers"][0]["metadata"];
            let url = trigger["url"].as_str().unwrap();
            let namespace = scaled["metadata"]["namespace"].as_str().unwrap();
            let start = format!("http://{pool}.{namespace}.svc:{port}");
            let path = url.strip_prefix(&start).unwrap_or_else(|| panic!("{url} is not {start}"));
            let answer = node.http.get(path).await;
            assert_eq!(answer.status, 200, "{url}");
            let place = trigger["valueLocation"].as_str().unwrap().replace('.', "/");
            let value = answer.json().pointer(&format!("/{place}")).cloned();
            assert!(value.is_some_and(|value| value.is_number()), "{url} has no {place}");
            // A pool of no pods would leave jobs in volumes that nobody opens.
            assert!(scaled["spec"]["minReplicaCount"].as_i64().unwrap() >= 1);
            asked += 1;
        }
    }
    assert!(asked >= 2, "{asked}");
}

//! What names something else names what is there.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::built::{Built, Pool, all, overlays};
use crate::pods::named;

type Labels = BTreeMap<String, String>;

fn pod_labels(pool: &Pool) -> Labels {
    let template = &pool.set.spec.template;
    template.metadata.as_ref().unwrap().labels.clone().unwrap()
}

fn matches(selector: &Labels, labels: &Labels) -> bool {
    assert!(!selector.is_empty(), "an empty selector takes everything");
    selector.iter().all(|(name, value)| labels.get(name) == Some(value))
}

fn wanted(selector: &LabelSelector) -> Labels {
    assert!(selector.match_expressions.is_none(), "read them here too");
    selector.match_labels.clone().unwrap()
}

/// The pools that a selector takes.
fn taken<'a>(selector: &Labels, pools: &'a [Pool]) -> Vec<&'a str> {
    let taken = pools.iter().filter(|pool| matches(selector, &pod_labels(pool)));
    taken.map(|pool| pool.name.as_str()).collect()
}

#[test]
#[ignore = "needs the built manifests: .ci/deploy"]
fn nothing_is_there_twice() {
    for built in all() {
        let mut seen = BTreeSet::new();
        for resource in &built.resources {
            let metadata = &resource["metadata"];
            let id = ["kind", "apiVersion"].map(|name| resource[name].to_string()).join(" ");
            let id = format!("{id} {} {}", metadata["namespace"], metadata["name"]);
            assert!(seen.insert(id.clone()), "{}: {id} is there twice", built.name);
        }
    }
}

#[test]
#[ignore = "needs the built manifests: .ci/deploy"]
fn everything_is_in_one_namespace_that_is_there() {
    for overlay in overlays() {
        let spaces = overlay.custom("Namespace");
        let [space] = spaces.as_slice() else { panic!("{}: one namespace", overlay.name) };
        for resource in overlay.resources.iter().filter(|it| it["kind"] != "Namespace") {
            let (kind, metadata) = (&resource["kind"], &resource["metadata"]);
            let at = format!("{}: {kind} {}", overlay.name, metadata["name"]);
            assert_eq!(metadata["namespace"], space["metadata"]["name"], "{at}");
        }
    }
}

#[test]
#[ignore = "needs the built manifests: .ci/deploy"]
fn a_pool_takes_its_own_pods_and_has_a_name_for_each() {
    for overlay in overlays() {
        let (pools, services) = (overlay.pools(), overlay.of::<Service>());
        let accounts = overlay.of::<ServiceAccount>();
        for pool in &pools {
            let at = format!("{}: {}", overlay.name, pool.name);
            let spec = &pool.set.spec;
            assert_eq!(taken(&wanted(&spec.selector), &pools), [&pool.name], "{at}");
            let account = pool.pod.service_account_name.as_ref();
            assert!(accounts.iter().any(|it| it.metadata.name.as_ref() == account), "{at}");
            for spread in pool.pod.topology_spread_constraints.iter().flatten() {
                let selector = wanted(spread.label_selector.as_ref().unwrap());
                assert!(matches(&selector, &pod_labels(pool)), "{at}: it spreads others");
            }
            let wanted = spec.service_name.as_ref();
            let found = services.iter().find(|it| it.metadata.name.as_ref() == wanted);
            let found = found.unwrap_or_else(|| panic!("{at}: no Service {wanted:?}"));
            let found = found.spec.as_ref().unwrap();
            assert_eq!(found.cluster_ip.as_deref(), Some("None"), "{at}");
            assert_eq!(found.publish_not_ready_addresses, Some(true), "{at}");
            assert!(taken(found.selector.as_ref().unwrap(), &pools).contains(&&*pool.name), "{at}");
        }
    }
}

#[test]
#[ignore = "needs the built manifests: .ci/deploy"]
fn a_service_has_pods_and_leads_to_their_port() {
    for overlay in overlays() {
        let pools = overlay.pools();
        for service in overlay.of::<Service>() {
            let at = format!("{}: {:?}", overlay.name, service.metadata.name);
            let spec = service.spec.unwrap();
            let taken = taken(spec.selector.as_ref().unwrap(), &pools);
            assert!(!taken.is_empty(), "{at} has no pods");
            // Only the names of the pods are for several pools.
            assert!(taken.len() == 1 || spec.cluster_ip.is_some(), "{at}: {taken:?}");
            for port in spec.ports.iter().flatten() {
                assert_eq!(port.target_port, Some(named("http")), "{at}");
                for pool in pools.iter().filter(|it| taken.contains(&&*it.name)) {
                    assert_eq!(port.port, pool.port("http"), "{at}");
                    let listen = &pool.environment(0)["PULK_LISTEN"];
                    assert_eq!(*listen, format!("0.0.0.0:{}", port.port), "{at}");
                }
            }
        }
    }
}

#[test]
#[ignore = "needs the built manifests: .ci/deploy"]
fn each_pool_has_one_budget_and_one_autoscaler() {
    for overlay in overlays() {
        let pools = overlay.pools();
        let budgets = overlay.of::<PodDisruptionBudget>();
        let budgets = budgets.iter().map(|it| it.spec.as_ref().unwrap().selector.as_ref().unwrap());
        let mut held: Vec<&str> =
            budgets.flat_map(|selector| taken(&wanted(selector), &pools)).collect();
        let mut names: Vec<&str> = pools.iter().map(|pool| pool.name.as_str()).collect();
        held.sort_unstable();
        names.sort_unstable();
        assert_eq!(held, names, "{}", overlay.name);
        let mut scaled = targets(&overlay);
        scaled.sort_unstable();
        assert_eq!(scaled, names, "{}", overlay.name);
    }
}

/// The pools that something scales.
fn targets(built: &Built) -> Vec<String> {
    let autoscalers = built.of::<HorizontalPodAutoscaler>().into_iter();
    let own = autoscalers.map(|it| {
        let target = it.spec.scale_target_ref;
        assert_eq!(
            (&*target.kind, target.api_version.as_deref()),
            ("StatefulSet", Some("apps/v1"))
        );
        target.name
    });
    let scaled = built.custom("ScaledObject").into_iter().map(|it| {
        let target = &it["spec"]["scaleTargetRef"];
        assert_eq!(
            (&target["kind"], &target["apiVersion"]),
            (&"StatefulSet".into(), &"apps/v1".into())
        );
        target["name"].as_str().unwrap().to_owned()
    });
    own.chain(scaled).collect()
}

#[test]
#[ignore = "needs the built manifests: .ci/deploy"]
fn the_network_is_closed_round_every_pod() {
    for overlay in overlays() {
        let pools = overlay.pools();
        let policies = overlay.of::<NetworkPolicy>();
        let [policy] = policies.as_slice() else { panic!("{}: one policy", overlay.name) };
        let spec = policy.spec.as_ref().unwrap();
        let selector = wanted(spec.pod_selector.as_ref().unwrap());
        assert_eq!(taken(&selector, &pools).len(), pools.len(), "{}", overlay.name);
        assert_eq!(spec.policy_types.as_ref().unwrap(), &["Ingress", "Egress"]);
        for rule in spec.ingress.iter().flatten() {
            let port = rule.ports.as_ref().unwrap().first().unwrap().port.clone();
            assert_eq!(port, Some(named("http")), "{}", overlay.name);
            assert!(rule.from.as_ref().is_some_and(|from| !from.is_empty()), "{}", overlay.name);
        }
    }
}

/// The headless Services and no others: each pod is scraped once.
#[test]
#[ignore = "needs the built manifests: .ci/deploy"]
fn the_monitor_takes_each_pod_once() {
    let all = all();
    let monitoring = all.iter().find(|it| it.name == "k8s_monitoring").unwrap();
    let monitors = monitoring.custom("ServiceMonitor");
    let [monitor] = monitors.as_slice() else { panic!("one monitor") };
    let selector = &monitor["spec"]["selector"];
    let labels: Labels = serde_json::from_value(selector["matchLabels"].clone()).unwrap();
    let [without] = selector["matchExpressions"].as_array().unwrap().as_slice() else {
        panic!("one expression")
    };
    assert_eq!(without["operator"], "DoesNotExist");
    let absent = without["key"].as_str().unwrap();
    for overlay in overlays() {
        let pools = overlay.pools();
        let mut scraped = Vec::new();
        for service in overlay.of::<Service>() {
            let own = service.metadata.labels.unwrap();
            if matches(&labels, &own) && !own.contains_key(absent) {
                let spec = service.spec.unwrap();
                let ports = spec.ports.iter().flatten().filter_map(|port| port.name.as_deref());
                assert!(ports.eq([monitor["spec"]["endpoints"][0]["port"].as_str().unwrap()]));
                scraped.extend(taken(spec.selector.as_ref().unwrap(), &pools));
            }
        }
        scraped.sort_unstable();
        let mut names: Vec<&str> = pools.iter().map(|pool| pool.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(scraped, names, "{}", overlay.name);
    }
}

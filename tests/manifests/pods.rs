//! What a pod may take, may do, and how long it may take to stop.

use k8s_openapi::api::core::v1::{Container, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::built::{Pool, overlays, quantity};

pub fn named(port: &str) -> IntOrString {
    IntOrString::String(port.to_owned())
}

/// What each overlay's pool is sized for: name, replicas, fewest and most pods, and the processor
/// and memory that it asks for and may have.
type Size = (&'static str, i32, i64, [&'static str; 4]);
const SIZES: [Size; 2] = [
    ("workers", 3, 20, ["250m", "512Mi", "1", "2Gi"]),
    ("workers-critical", 5, 30, ["500m", "1Gi", "2", "4Gi"]),
];

fn told(resources: &ResourceRequirements) -> [String; 4] {
    let requests = resources.requests.as_ref().unwrap();
    let limits = resources.limits.as_ref().unwrap();
    [&requests["cpu"], &requests["memory"], &limits["cpu"], &limits["memory"]]
        .map(|quantity| quantity.0.clone())
}

#[test]
#[ignore = "needs the built manifests: .ci/deploy"]
fn the_pools_have_their_sizes() {
    let mut seen = 0;
    for overlay in overlays().iter().filter(|it| !it.name.ends_with("shadow")) {
        for pool in overlay.pools() {
            let base = pool.name.trim_end_matches("-blue").trim_end_matches("-green");
            let (_, replicas, most, resources) =
                SIZES.iter().find(|(name, ..)| *name == base).unwrap();
            let at = format!("{}: {}", overlay.name, pool.name);
            assert_eq!(pool.set.spec.replicas, Some(*replicas), "{at}");
            assert_eq!(pool.most_pods, Some(*most), "{at}");
            assert_eq!(told(pool.pulk.resources.as_ref().unwrap()), *resources, "{at}");
            seen += 1;
        }
    }
    assert!(seen >= 9, "{seen}");
}

/// What the program takes at its fullest must fit, or the kernel ends it under load.
#[test]
#[ignore = "needs the built manifests: .ci/deploy"]
fn a_full_node_fits_into_its_memory_and_its_volume() {
    // docs/ARCHITECTURE.md, "What is in memory": commands under way, bodies of requests, decoded
    // chunks; and what a compaction adds. sled's cache takes several times its 8 MiB.
    let (commands, bodies, chunks, sled, compaction) =
        (64 << 20, 128 << 20, 4 * (8 << 20), 8 * (8 << 20), 230_000_000);
    for overlay in overlays() {
        for pool in overlay.pools() {
            let at = format!("{}: {}", overlay.name, pool.name);
            let [_, request, _, limit] =
                told(pool.pulk.resources.as_ref().unwrap()).map(|text| quantity(&text));
            // The autoscaler's 80 % of the request, above what is there without load.
            assert!(request * 8 / 10 > commands + bodies + chunks + sled, "{at}: {request}");
            assert!(limit > 2 * (commands + bodies + chunks + sled + compaction), "{at}: {limit}");
            assert!(disk_worst_bytes(&pool) <= volume_bytes(&pool), "{at}: the volume is small");
        }
    }
}

/// The database's file before it is compacted (64 MiB and four times what is alive), its copy (2.5
/// times) and the reserve.
fn disk_worst_bytes(pool: &Pool) -> u64 {
    let environment = pool.environment(0);
    let number = |name: &str| environment[name].parse::<u64>().unwrap();
    let alive = number("PULK_MAX_BYTES");
    assert!(alive > 0, "{}: no limit is no number to plan for", pool.name);
    (64 << 20) + 4 * alive + alive * 5 / 2 + number("PULK_DISK_RESERVE_BYTES")
}

fn volume_bytes(pool: &Pool) -> u64 {
    let templates = pool.set.spec.volume_claim_templates.clone().unwrap();
    let [template] = templates.as_slice() else { panic!("{}: one volume", pool.name) };
    let spec = template.spec.as_ref().unwrap();
    assert_eq!(spec.access_modes.as_ref().unwrap(), &["ReadWriteOncePod"], "{}", pool.name);
    quantity(&spec.resources.as_ref().unwrap().requests.as_ref().unwrap()["storage"].0)
}

#[test]
#[ignore = "needs the built manifests: .ci/deploy"]
fn a_pod_has_longer_to_stop_than_it_takes() {
    for overlay in overlays() {
        for pool in overlay.pools() {
            let at = format!("{}: {}", overlay.name, pool.name);
            let drain_ms: i64 = pool.environment(0)["PULK_SHUTDOWN_GRACE_MS"].parse().unwrap();
            let grace_s = pool.pod.termination_grace_period_seconds.unwrap();
            let before_s = slept_s(&pool.pulk);
            // As much again as a third of the drain, for closing the store.
            let needed_ms = before_s * 1_000 + drain_ms * 4 / 3;
            assert!(grace_s * 1_000 > needed_ms, "{at}: {grace_s} s for {needed_ms} ms");
            assert!(before_s > 0, "{at}: proxies need a moment");
            for other in pool.pod.containers.iter().filter(|it| it.name != "pulk") {
                let lives_ms = slept_s(other) * 1_000;
                assert!(lives_ms >= before_s * 1_000 + drain_ms, "{at}: {} ends first", other.name);
                assert!(lives_ms < grace_s * 1_000, "{at}: {} is killed", other.name);
            }
        }
    }
}

fn slept_s(container: &Container) -> i64 {
    let hook = container.lifecycle.as_ref().and_then(|it| it.pre_stop.as_ref());
    hook.and_then(|it| it.sleep.as_ref()).map_or(0, |sleep| sleep.seconds)
}

/// Restricted, and a bit more: nothing but the volume can be written, no token is there.
#[test]
#[ignore = "needs the built manifests: .ci/deploy"]
fn a_pod_may_do_nothing_but_its_work() {
    for overlay in overlays() {
        for pool in overlay.pools() {
            let at = format!("{}: {}", overlay.name, pool.name);
            let all = pool.pod.security_context.as_ref().unwrap();
            assert_eq!(all.run_as_non_root, Some(true), "{at}");
            assert_eq!((all.run_as_user, all.fs_group), (Some(65_532), Some(65_532)), "{at}");
            assert_eq!(all.seccomp_profile.as_ref().unwrap().type_, "RuntimeDefault", "{at}");
            assert_eq!(pool.pod.automount_service_account_token, Some(false), "{at}");
            for container in &pool.pod.containers {
                let own = container.security_context.as_ref().unwrap();
                assert_eq!(own.read_only_root_filesystem, Some(true), "{at}");
                assert_eq!(own.allow_privilege_escalation, Some(false), "{at}");
                let capabilities = own.capabilities.as_ref().unwrap();
                assert_eq!(capabilities.drop.as_ref().unwrap(), &["ALL"], "{at}");
                assert!(capabilities.add.is_none() && own.privileged.is_none(), "{at}");
            }
            let mounts = pool.pulk.volume_mounts.as_ref().unwrap();
            let [mount] = mounts.as_slice() else { panic!("{at}: one mount") };
            let data_dir = &pool.environment(0)["PULK_DATA_DIR"];
            assert!(data_dir.starts_with(&format!("{}/", mount.mount_path)), "{at}: {data_dir}");
        }
    }
}

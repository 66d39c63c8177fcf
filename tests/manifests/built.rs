//! The kustomizations as they were built, and what their pods are given.

use std::collections::BTreeMap;
use std::fs;

use k8s_openapi::Resource;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Container, PodSpec};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// One built kustomization.
pub struct Built {
    pub name: String,
    pub resources: Vec<Value>,
}

/// All of them, as `.ci/deploy` left them.
pub fn all() -> Vec<Built> {
    let directory = std::env::var("PULK_MANIFESTS")
        .expect("PULK_MANIFESTS must name the built manifests: run .ci/deploy");
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let built = files.map(|path| Built {
        name: path.file_stem().unwrap().to_string_lossy().into_owned(),
        resources: serde_json::from_slice(&fs::read(&path).unwrap()).unwrap(),
    });
    let built: Vec<Built> = built.collect();
    assert!(built.len() >= 10, "only {} kustomizations were built", built.len());
    built
}

/// Those that can be deployed as they are.
pub fn overlays() -> Vec<Built> {
    // The colours are parts of one overlay.
    let is_part = |name: &str| name.ends_with("_blue") || name.ends_with("_green");
    let whole = |built: &Built| built.name.starts_with("k8s_overlays_") && !is_part(&built.name);
    let overlays: Vec<Built> = all().into_iter().filter(whole).collect();
    assert!(overlays.len() >= 6, "only {} overlays were built", overlays.len());
    overlays
}

impl Built {
    /// Everything of one type.
    pub fn of<R: Resource + DeserializeOwned>(&self) -> Vec<R> {
        let is_one =
            |value: &&Value| value["apiVersion"] == R::API_VERSION && value["kind"] == R::KIND;
        let found = self.resources.iter().filter(is_one);
        found.map(|value| serde_json::from_value(value.clone()).unwrap()).collect()
    }

    /// Everything of a kind that Kubernetes itself does not know.
    pub fn custom(&self, kind: &str) -> Vec<&Value> {
        self.resources.iter().filter(|value| value["kind"] == kind).collect()
    }

    /// The pools; each overlay has one at least.
    pub fn pools(&self) -> Vec<Pool> {
        let configs = self.of::<ConfigMap>();
        let pools: Vec<Pool> =
            self.of().into_iter().map(|set| Pool::new(set, &configs, self)).collect();
        assert!(!pools.is_empty(), "{}: no pool", self.name);
        pools
    }

    /// The most pods that something may give to a pool.
    fn most_pods(&self, pool: &str) -> Option<i64> {
        let autoscalers = self.of::<HorizontalPodAutoscaler>();
        let own = autoscalers.iter().map(|it| &it.spec);
        let own = own.filter(|it| it.scale_target_ref.name == pool);
        let scaled = self.custom("ScaledObject").into_iter().map(|it| &it["spec"]);
        let scaled = scaled.filter(|it| it["scaleTargetRef"]["name"] == pool);
        let most = own.map(|it| i64::from(it.max_replicas));
        let all: Vec<i64> =
            most.chain(scaled.map(|it| it["maxReplicaCount"].as_i64().unwrap())).collect();
        assert!(all.len() <= 1, "{}: {} autoscalers for {pool}", self.name, all.len());
        all.first().copied()
    }
}

/// A StatefulSet with what its pulk container is given.
pub struct Pool {
    pub name: String,
    pub set: StatefulSet,
    pub pod: PodSpec,
    pub pulk: Container,
    /// What comes from the ConfigMap.
    pub shared: BTreeMap<String, String>,
    pub most_pods: Option<i64>,
}

impl Pool {
    fn new(set: StatefulSet, configs: &[ConfigMap], built: &Built) -> Pool {
        let name = set.metadata.name.clone().unwrap();
        let pod = set.spec.template.spec.clone().unwrap();
        let pulk = pod.containers.iter().find(|it| it.name == "pulk").unwrap().clone();
        let mut shared = BTreeMap::new();
        for from in pulk.env_from.iter().flatten() {
            let wanted = &from.config_map_ref.as_ref().unwrap().name;
            let found = configs.iter().find(|it| it.metadata.name.as_ref() == Some(wanted));
            let found = found.unwrap_or_else(|| panic!("{}: no ConfigMap {wanted}", built.name));
            shared.extend(found.data.clone().unwrap());
        }
        let most_pods = built.most_pods(&name);
        Pool { name, set, pod, pulk, shared, most_pods }
    }

    /// The environment of the pod with this ordinal, as the kubelet makes it.
    pub fn environment(&self, ordinal: i64) -> BTreeMap<String, String> {
        let mut environment = self.shared.clone();
        let mut named = BTreeMap::new();
        for variable in self.pulk.env.iter().flatten() {
            let value = match (&variable.value, &variable.value_from) {
                (Some(value), None) => expanded(value, &named),
                (None, Some(from)) => {
                    let field = &from.field_ref.as_ref().unwrap().field_path;
                    match field.as_str() {
                        "metadata.name" => format!("{}-{ordinal}", self.name),
                        "metadata.labels['apps.kubernetes.io/pod-index']" => ordinal.to_string(),
                        other => panic!("{}: {other} is not known here", self.name),
                    }
                }
                _ => panic!("{}: {} has no value", self.name, variable.name),
            };
            let twice = named.insert(variable.name.clone(), value);
            assert!(twice.is_none(), "{}: {} is there twice", self.name, variable.name);
        }
        environment.extend(named);
        environment
    }

    /// The variables that are there for others to be made of.
    pub fn ingredients(&self) -> Vec<&str> {
        let variables = self.pulk.env.iter().flatten();
        variables.filter(|it| it.value_from.is_some()).map(|it| it.name.as_str()).collect()
    }

    pub fn port(&self, name: &str) -> i32 {
        let ports = self.pulk.ports.iter().flatten();
        let found = ports.filter(|port| port.name.as_deref() == Some(name));
        found.map(|port| port.container_port).next().expect(name)
    }
}

/// `$(NAME)` is replaced by what stands before it, and by nothing else.
fn expanded(value: &str, before: &BTreeMap<String, String>) -> String {
    let mut out = value.to_owned();
    for (name, it) in before {
        out = out.replace(&format!("$({name})"), it);
    }
    assert!(!out.contains("$("), "{value} names a variable that does not stand before it");
    out
}

/// A quantity as Kubernetes writes it, in whole units: bytes, or thousandths of a processor.
pub fn quantity(text: &str) -> u64 {
    let digits = text.trim_end_matches(|c: char| c.is_alphabetic());
    let number: u64 = digits.parse().unwrap();
    match &text[digits.len()..] {
        "Ki" => number << 10,
        "Mi" => number << 20,
        "Gi" => number << 30,
        "m" => number,
        "" => number * 1_000,
        other => panic!("{other} is no unit known here"),
    }
}

"""Builds every kustomization and holds it against what is published and against promtool.

manifests.py KUBECTL OUT: writes each built kustomization as OUT/NAME.json, for tests/manifests.rs.
Every finding is printed; any is a failure.
"""

import json
import pathlib
import subprocess
import sys

import jsonschema
import kubernetes_validate
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor

# The oldest in which all that is used here is on by default (the sleep of preStop, the pod-index
# label, the retention of claims), and the newest there are schemas of.
VERSIONS = ["1.32", "1.37"]
CUSTOM = {
    ("keda.sh/v1alpha1", "ScaledObject"): ScaledObject,
    ("monitoring.coreos.com/v1", "ServiceMonitor"): ServiceMonitor,
    ("monitoring.coreos.com/v1", "PrometheusRule"): PrometheusRule,
}
ROOT = pathlib.Path(__file__).parent.parent
MONITORING = ROOT / "k8s" / "monitoring"
wrong = []


def kustomizations():
    found = []
    for top in ("statefulset", "k8s"):
        for path in sorted((ROOT / top).rglob("kustomization.yaml")):
            # A component is built by the overlay that uses it.
            if yaml.safe_load(path.read_text())["kind"] == "Kustomization":
                found.append(path.parent)
    return found


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def build(kubectl, folder):
    built = run(kubectl, "kustomize", str(folder))
    if built.returncode != 0 or built.stderr.strip():
        # Also a warning: of a field that is deprecated, most times.
        wrong.append(f"{folder}: {built.stderr.strip()}")
    return [each for each in yaml.safe_load_all(built.stdout) if each]


def closed(schema):
    """The schema, with every object that has named members refusing others."""
    if isinstance(schema, dict):
        schema = {name: closed(value) for name, value in schema.items()}
        if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
            schema["additionalProperties"] = False
        return schema
    return [closed(each) for each in schema] if isinstance(schema, list) else schema


def validate(where, resource, schemas):
    kind = (resource.get("apiVersion"), resource.get("kind"))
    name = f"{where}: {kind[1]} {resource.get('metadata', {}).get('name')}"
    if kind in CUSTOM:
        for error in schemas[kind].iter_errors(resource):
            wrong.append(f"{name}: {error.json_path}: {error.message}")
        return 1
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(resource, version, strict=True)
        except Exception as error:  # each kind of refusal has a class of its own
            wrong.append(f"{name}: {version}: {error}")
    return len(VERSIONS)


def check_validators(schemas):
    """A check that never says no is none: what is broken on purpose must be refused."""
    deployment = {"apiVersion": "v1", "kind": "Service", "spec": {"prots": []}}
    try:
        kubernetes_validate.validate(deployment, VERSIONS[0], strict=True)
        wrong.append("a Service with an unknown field is not refused")
    except kubernetes_validate.ValidationError:
        pass
    broken = {
        "ScaledObject": {"scaleTargetRef": {"name": "a"}, "triggers": [], "polingInterval": 1},
        "ServiceMonitor": {"selector": {}, "endpoints": [{"prot": "http"}]},
        "PrometheusRule": {"groups": [{"name": "a", "rules": [{"exrp": "up"}]}]},
    }
    for (version, kind), schema in schemas.items():
        resource = {"apiVersion": version, "kind": kind, "metadata": {"name": "a"}}
        if schema.is_valid({**resource, "spec": broken[kind]}):
            wrong.append(f"a {kind} with an unknown field is not refused")


def promtool(out, *arguments):
    ended = run("promtool", *arguments, cwd=out)
    if ended.returncode != 0:
        wrong.append(f"promtool {' '.join(arguments)}: {ended.stdout}{ended.stderr}")


def check_rules(out):
    rules = []
    for name in ("alerts", "storefront-names"):
        spec = yaml.safe_load((MONITORING / f"{name}.yaml").read_text())["spec"]
        (out / f"{name}.json").write_text(json.dumps(spec))
        rules += [rule for group in spec["groups"] for rule in group["rules"]]
        test = MONITORING / "tests" / f"{name}.yaml"
        (out / test.name).write_text(test.read_text())
        promtool(out, "check", "rules", f"{name}.json")
        promtool(out, "test", "rules", test.name)
    return rules


def check_alerts(rules):
    """Each alert is seen fired and not, and the runbook has a line for it."""
    fired, silent = set(), set()
    for case in yaml.safe_load((MONITORING / "tests" / "alerts.yaml").read_text())["tests"]:
        for test in case["alert_rule_test"]:
            (fired if test["exp_alerts"] else silent).add(test["alertname"])
    runbook = (ROOT / "docs" / "OPERATIONS.md").read_text()
    for name in [rule["alert"] for rule in rules if "alert" in rule]:
        if name not in fired or name not in silent:
            wrong.append(f"{name}: tests need a series that fires it, and one that does not")
        if f"| `{name}` |" not in runbook:
            wrong.append(f"{name}: docs/OPERATIONS.md does not say what to do")
    names = (MONITORING / "tests" / "storefront-names.yaml").read_text()
    for name in [rule["record"] for rule in rules if "record" in rule]:
        if f"{name}{{" not in names and f"({name})" not in names:
            wrong.append(f"{name}: no test looks at it")


def check_dashboard(out):
    """Grafana's variables filled in, every query is one to Prometheus."""
    dashboard = json.loads((MONITORING / "background-job-health.json").read_text())
    queries = [t["expr"] for panel in dashboard["panels"] for t in panel["targets"]]
    filled = []
    for query in queries:
        for variable, value in (("__rate_interval", "5m"), ("namespace", "n"), ("queue", ".*")):
            query = query.replace(f"${variable}", value)
        if "$" in query:
            wrong.append(f"the dashboard has no variable for {query}")
        filled.append(query)
    if len(dashboard["panels"]) != 6 or len(filled) < 6:
        wrong.append("the dashboard has not its six panels")
    rules = [{"record": f"query_{n}", "expr": query} for n, query in enumerate(filled)]
    (out / "dashboard.json").write_text(json.dumps({"groups": [{"name": "a", "rules": rules}]}))
    promtool(out, "check", "rules", "dashboard.json")
    return len(filled)


def main(kubectl, out):
    out.mkdir(parents=True, exist_ok=True)
    schemas = {
        kind: jsonschema.Draft202012Validator(closed(model.model_json_schema(by_alias=True)))
        for kind, model in CUSTOM.items()
    }
    check_validators(schemas)
    validations = 0
    built = kustomizations()
    for folder in built:
        where = str(folder.relative_to(ROOT))
        resources = build(kubectl, folder)
        if not resources:
            wrong.append(f"{where}: it builds nothing")
        validations += sum(validate(where, each, schemas) for each in resources)
        (out / f"{where.replace('/', '_')}.json").write_text(json.dumps(resources))
    rules_out = out.parent / "rules"
    rules_out.mkdir(exist_ok=True)
    rules = check_rules(rules_out)
    check_alerts(rules)
    queries = check_dashboard(rules_out)
    print(f"{len(built)} kustomizations, {validations} validations, {len(rules)} rules, {queries} queries")
    for each in wrong:
        print(f"wrong: {each}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], pathlib.Path(sys.argv[2])))

//! `isopod metrics`: the daemon's own metrics, or those of its pods.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use admin_api::v1::MetricsRequest;
use cri_api::v1::{
    ListMetricDescriptorsRequest, ListPodSandboxMetricsRequest, Metric, MetricDescriptor,
    MetricType, PodSandboxMetrics,
};

use super::failure::{Doing, Outcome};
use super::families;
use super::node::Node;
use super::print::{self, Form};

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Metrics of pods and containers, as the kubelet has them at /metrics/cadvisor; of any runtime
    #[arg(long)]
    pods: bool,
}

/// Prints metrics in Prometheus' text format; for programs as a list of families, those of pods as the CRI has them.
pub async fn run(node: &Node, args: &Args, form: Form) -> Outcome {
    if !args.pods {
        let answer = node.admin().metrics(MetricsRequest {}).await;
        let text = answer.doing("read the daemon's metrics")?.into_inner().text;
        match form {
            Form::Table => print::line(text.trim_end())?,
            Form::Json | Form::Yaml => print::value(&families::of(&text), form)?,
        }
        return Ok(0);
    }
    let mut runtime = node.runtime();
    let answer = runtime.list_pod_sandbox_metrics(ListPodSandboxMetricsRequest {}).await;
    let answer = answer.doing("read the metrics of pods")?.into_inner();
    if form != Form::Table {
        print::value(&print::json_of(&answer, "ListPodSandboxMetricsResponse")?, form)?;
        return Ok(0);
    }
    let descriptors = runtime.list_metric_descriptors(ListMetricDescriptorsRequest {}).await;
    let descriptors = descriptors.doing("read what the metrics are")?.into_inner().descriptors;
    print::line(exposition(&descriptors, &answer.pod_metrics).trim_end())?;
    Ok(0)
}

/// Prometheus' text format 0.0.4.
fn exposition(descriptors: &[MetricDescriptor], pods: &[PodSandboxMetrics]) -> String {
    let mut by_name: BTreeMap<&str, Vec<&Metric>> = BTreeMap::new();
    let of_containers = pods.iter().flat_map(|pod| &pod.container_metrics);
    let all = pods.iter().flat_map(|pod| &pod.metrics);
    for metric in all.chain(of_containers.flat_map(|container| &container.metrics)) {
        by_name.entry(&metric.name).or_default().push(metric);
    }
    let mut text = String::new();
    for (name, metrics) in by_name {
        let Some(descriptor) = descriptors.iter().find(|one| one.name == name) else { continue };
        let kind = match metrics[0].metric_type() {
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
        };
        let _ = writeln!(text, "# HELP {name} {}", descriptor.help.replace('\n', " "));
        let _ = writeln!(text, "# TYPE {name} {kind}");
        for metric in metrics {
            let labels = descriptor.label_keys.iter().zip(&metric.label_values);
            let labels: Vec<String> =
                labels.map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
            let value = metric.value.as_ref().map_or(0, |value| value.value);
            let _ = writeln!(text, "{name}{{{}}} {value}", labels.join(","));
        }
    }
    text
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use cri_api::v1::UInt64Value;

    use super::*;

    #[test]
    fn metrics_of_pods_are_written_as_prometheus_reads_them() {
        let descriptor = MetricDescriptor {
            name: "container_memory_rss".into(),
            help: "Size of RSS.".into(),
            label_keys: vec!["pod".into()],
        };
        let metric = Metric {
            name: "container_memory_rss".into(),
            metric_type: MetricType::Gauge.into(),
            label_values: vec!["a\"b".into()],
            value: Some(UInt64Value { value: 7 }),
            ..Metric::default()
        };
        let pod = PodSandboxMetrics { metrics: vec![metric], ..PodSandboxMetrics::default() };
        assert_eq!(
            exposition(&[descriptor], &[pod]),
            "# HELP container_memory_rss Size of RSS.\n# TYPE container_memory_rss gauge\n\
             container_memory_rss{pod=\"a\\\"b\"} 7\n"
        );
    }
}

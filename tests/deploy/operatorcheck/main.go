// Checks the ServiceMonitor and the PrometheusRule among rendered manifests against the Prometheus operator's types.
package main

import (
	"bytes"
	"fmt"
	"os"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"sigs.k8s.io/yaml"
)

func main() {
	file, err := os.ReadFile(os.Args[1])
	if err != nil {
		fail(err)
	}
	found := map[string]int{}
	for _, document := range bytes.Split(file, []byte("\n---\n")) {
		var object struct{ Kind string }
		if err := yaml.Unmarshal(document, &object); err != nil {
			fail(err)
		}
		var target any
		switch object.Kind {
		case "ServiceMonitor":
			target = &monitoring.ServiceMonitor{}
		case "PrometheusRule":
			target = &monitoring.PrometheusRule{}
		default:
			continue
		}
		// Strict: an unknown field is an error.
		if err := yaml.UnmarshalStrict(document, target); err != nil {
			fail(fmt.Errorf("%s: %w", object.Kind, err))
		}
		found[object.Kind]++
	}
	if found["ServiceMonitor"] != 1 || found["PrometheusRule"] != 1 {
		fail(fmt.Errorf("not one of each: %v", found))
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// Kubernetes runs the programs of a Kubernetes cluster, for the tests of the fleet. Its first argument, or the name
// that it is started by, says which one. Kubernetes is released as source and as images, not as a Go module that
// `go install` accepts.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func main() {
	name, args := filepath.Base(os.Args[0]), os.Args
	programs := map[string]func() *cobra.Command{
		"kube-apiserver":          apiserver.NewAPIServerCommand,
		"kube-controller-manager": controllers.NewControllerManagerCommand,
		"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
		"kubelet":                 func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
		"kubectl":                 kubectl.NewDefaultKubectlCommand,
	}
	if _, found := programs[name]; !found && len(args) > 1 {
		name, args = args[1], args[1:]
	}
	program, found := programs[name]
	if !found {
		fmt.Fprintln(os.Stderr, "kubernetes: the first argument is the name of a program, for example kubelet")
		os.Exit(2)
	}
	os.Args = args
	os.Exit(cli.Run(program()))
}

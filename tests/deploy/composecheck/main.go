// Loads compose files as Docker Compose does: with its schema, its profiles and its references between services.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	options, err := cli.NewProjectOptions(os.Args[1:], cli.WithProfiles([]string{"*"}), cli.WithResolvedPaths(true))
	if err == nil {
		var project, loadErr = options.LoadProject(context.Background())
		err = loadErr
		if err == nil {
			fmt.Println("ok:", len(project.Services), "services")
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"runtime"
)

// An image is this binary with a behaviour baked in.
type image struct {
	name        string
	command     string
	environment []string
}

// The versions that tests deploy. All share one layer, so the whole set is not larger than one.
var catalogue = []image{
	{"pause:bed", "pause", nil},
	{"shop:good", "serve", []string{"STUB_VERSION=good"}},
	{"shop:good2", "serve", []string{"STUB_VERSION=good2"}},
	{"shop:good3", "serve", []string{"STUB_VERSION=good3"}},
	{"shop:errors", "serve", []string{"STUB_VERSION=errors", "FAIL_RATIO=0.8"}},
	{"shop:better", "serve", []string{"STUB_VERSION=better", "FAIL_RATIO=0.6"}},
	{"shop:cart", "serve", []string{"STUB_VERSION=cart", "FAIL_ROUTE=/cart"}},
	{"shop:outage", "serve", []string{"STUB_VERSION=outage", "FAIL_RATIO=1", "HEALTH=fail"}},
	{"shop:unhealthy", "serve", []string{"STUB_VERSION=unhealthy", "HEALTH=fail"}},
	{"shop:slow", "serve", []string{"STUB_VERSION=slow", "LATENCY=700ms"}},
	{"shop:notready", "serve", []string{"STUB_VERSION=notready", "READY=no"}},
	{"shop:crash", "serve", []string{"STUB_VERSION=crash", "CRASH_AFTER=1"}},
}

const layerName = "layer.tar"

// manifestEntry is one image in a docker-archive's manifest.json.
type manifestEntry struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// images writes DIR/images.tar in the docker-archive format that containerd and docker load. Nothing in
// it depends on the clock, so the same binary always gives the same image ids.
func images(arguments []string) error {
	flags := flag.NewFlagSet("images", flag.ExitOnError)
	into := flags.String("into", "", "folder for images.tar")
	_ = flags.Parse(arguments)
	if *into == "" {
		return errors.New("images: no --into")
	}
	layer, err := layerOfThisBinary()
	if err != nil {
		return err
	}
	files := map[string][]byte{layerName: layer}
	order := []string{layerName}
	var manifest []manifestEntry
	for _, image := range catalogue {
		config, err := json.Marshal(configOf(image, layer))
		if err != nil {
			return err
		}
		name := digest(config) + ".json"
		files[name] = config
		order = append(order, name)
		manifest = append(manifest, manifestEntry{name, []string{image.name}, []string{layerName}})
	}
	if files["manifest.json"], err = json.Marshal(manifest); err != nil {
		return err
	}
	archive, err := tarOf(append(order, "manifest.json"), files, 0o644)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(*into, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(*into, "images.tar"), archive, 0o644)
}

func layerOfThisBinary() ([]byte, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	binary, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return tarOf([]string{"shop"}, map[string][]byte{"shop": binary}, 0o755)
}

func configOf(i image, layer []byte) any {
	return map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"config": map[string]any{
			"Entrypoint": []string{"/shop", i.command},
			"Env":        i.environment,
			"User":       "65534:65534",
			"Labels":     map[string]string{"image": i.name},
		},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest(layer)}},
		"history": []map[string]any{{"created_by": "shop images"}},
	}
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

func tarOf(order []string, files map[string][]byte, mode int64) ([]byte, error) {
	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	for _, name := range order {
		header := &tar.Header{Name: name, Mode: mode, Size: int64(len(files[name])), Typeflag: tar.TypeReg}
		if err := writer.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := writer.Write(files[name]); err != nil {
			return nil, err
		}
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	return archive.Bytes(), nil
}

// Makes the requests of http_clients.py with net/http, and prints what it got as lines of JSON.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
)

func main() {
	protocols := new(http.Protocols)
	switch os.Getenv("PROTOCOL") {
	case "h2":
		protocols.SetHTTP2(true)
	case "h2c":
		protocols.SetUnencryptedHTTP2(true)
	default:
		protocols.SetHTTP1(true)
	}
	roots := x509.NewCertPool()
	if file := os.Getenv("CA"); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil || !roots.AppendCertsFromPEM(pem) {
			log.Fatal("no certificate in ", file)
		}
	}
	client := &http.Client{Transport: &http.Transport{
		Protocols:       protocols,
		TLSClientConfig: &tls.Config{RootCAs: roots},
	}}
	size, err := strconv.Atoi(os.Getenv("BODY"))
	if err != nil {
		log.Fatal(err)
	}
	base := os.Getenv("BASE")
	for _, request := range []struct {
		method, path string
		hasToken     bool
		size         int
	}{
		{"GET", "/orders/1", true, 0},
		{"GET", "/orders/1", false, 0},
		{"POST", "/orders/1", true, size},
		{"GET", "/nothing", true, 0},
	} {
		body := bytes.NewReader(make([]byte, request.size))
		message, err := http.NewRequest(request.method, base+request.path, body)
		if err != nil {
			log.Fatal(err)
		}
		if request.hasToken {
			message.Header.Set("Authorization", "Bearer "+os.Getenv("TOKEN"))
		}
		response, err := client.Do(message)
		if err != nil {
			log.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		if err != nil {
			log.Fatal(err)
		}
		var echo struct {
			Length int `json:"length"`
		}
		if err := json.Unmarshal(text, &echo); err != nil {
			log.Fatal(err)
		}
		version := map[int]string{1: "1.1", 2: "2"}[response.ProtoMajor]
		fmt.Printf("{\"status\": %d, \"version\": %q, \"length\": %d}\n", response.StatusCode, version, echo.Length)
	}
}

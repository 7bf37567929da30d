"""What the checks share: processes that end with the check, gateways, certificates, tokens."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading

HERE = pathlib.Path(__file__).resolve().parent

failures = []


def check(name, found, expected):
    """Compares, and says so."""
    if found == expected:
        print(f"ok      {name}", flush=True)
    else:
        print(f"FAILED  {name}\n        found    {found}\n        expected {expected}", flush=True)
        failures.append(name)


class Processes:
    """Child processes, killed at the end."""

    def __init__(self):
        self.children = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in self.children:
            child.kill()
            child.wait()

    def start(self, command, **streams):
        child = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, **streams)
        self.children.append(child)
        return child

    def service(self, command):
        """Starts a service; returns the port that it prints."""
        line = self.start(command, stdout=subprocess.PIPE).stdout.readline()
        if not line:
            sys.exit(f"{command} did not start")
        return int(line)

    def gateway(self, program, folder, config, listeners=1):
        """Starts a gateway; returns the ports of its listeners, in the order of the configuration, and its access
        log."""
        file = pathlib.Path(tempfile.mkstemp(suffix=".toml", dir=folder)[1])
        file.write_text(config)
        log = file.with_suffix(".log")
        with log.open("w") as access_log:
            child = self.start([program, "run", "-c", file], stdout=access_log, stderr=subprocess.PIPE)
        ports, events = [], []
        for line in child.stderr:
            events.append(line)
            # A problem with the configuration is reported in plain text.
            if line.startswith("{") and "address" in (event := json.loads(line)):
                ports.append(int(event["address"].rpartition(":")[2]))
            if len(ports) == listeners:
                # The pipe must not fill.
                threading.Thread(target=lambda: list(child.stderr), daemon=True).start()
                return ports, log
        sys.exit("the gateway did not start:\n" + "".join(events))


def certificate(folder, names):
    """A certificate authority, unless the folder has one, and a certificate and key for these names that it has signed:
    three files."""
    folder = pathlib.Path(folder)
    ca, ca_key, cert, key = (folder / name for name in ("ca.pem", "ca.key", "cert.pem", "key.pem"))
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)

    extension = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"]
    if not ca.exists():
        openssl("req", "-x509", *new_key, "-keyout", ca_key, "-out", ca, "-subj", "/CN=Test CA", *extension)
    names = ",".join(f"{'IP' if name[0].isdigit() else 'DNS'}:{name}" for name in names)
    leaf = ["-addext", f"subjectAltName={names}", "-addext", "extendedKeyUsage=serverAuth"]
    leaf += ["-addext", "basicConstraints=critical,CA:FALSE"]
    openssl("req", "-x509", *new_key, "-keyout", key, "-out", cert, "-subj", "/CN=test", "-CA", ca, "-CAkey", ca_key, *leaf)
    return ca, cert, key


def main(parts, usage):
    """Runs the parts that the command line names, or all of them."""
    program, installed, *chosen = sys.argv[1:] if len(sys.argv) > 2 else sys.exit(usage)
    if unknown := set(chosen) - set(parts):
        sys.exit(f"no such part: {', '.join(unknown)}; there are {', '.join(parts)}")
    # Names of the tests resolve to this machine, and no proxy of the environment is between.
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        os.environ.pop(name, None), os.environ.pop(name.upper(), None)
    for name, part in parts.items():
        if chosen and name not in chosen:
            continue
        print(f"== {name}", flush=True)
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            processes = stack.enter_context(Processes())
            part(processes, pathlib.Path(program).resolve(), pathlib.Path(installed).resolve(), folder)
    if failures:
        sys.exit(f"{len(failures)} checks failed")

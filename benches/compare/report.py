"""What the comparison found: medians, ratios, and the table of targets."""

import statistics


def median(runs: list, field: str) -> float:
    return statistics.median(getattr(run, field) for run in runs)


def print_all(results: dict, verify_us: list[float], resident: dict[str, int], grown) -> None:
    base = {
        workload: median(runs, "cpu_us")
        for workload, by_proxy in results.items()
        for name, runs in by_proxy.items()
        if name in ("nginx", "nginx-tls-clients", "nginx-tls-upstream")
    }
    plain = base.get("one")
    for workload, by_proxy in results.items():
        print(f"\n{workload}: CPU µs per request, median (least, most); times nginx; p50, p99 µs")
        for name, runs in by_proxy.items():
            values = [run.cpu_us for run in runs]
            reference = base.get(workload, plain)
            ratio = f"{statistics.median(values) / reference:6.2f}" if reference else "     –"
            print(f"  {name:16} {statistics.median(values):8.1f} ({min(values):.1f}, {max(values):.1f})  {ratio}"
                  f"  {median(runs, 'p50_us'):9.0f} {median(runs, 'p99_us'):9.0f}")
    if verify_us:
        print(f"\nRSA-2048 verification by openssl speed: {statistics.median(verify_us):.1f} µs")
    if resident:
        print("\nresident with 64 connections busy, KiB: " + ", ".join(f"{name} {kib}" for name, kib in resident.items()))
    if grown:
        print("\n" + "\n".join(grown))
    targets = list(judge(results, verify_us, resident))
    if targets:
        print("\ntarget                                                         got    at most")
        for name, got, most in targets:
            print(f"  {name:58} {got:8.2f} {most:8.2f}  {'met' if got <= most else 'MISSED'}")


def judge(results: dict, verify_us: list[float], resident: dict[str, int]):
    """Name, what was found, what it should at most be."""

    def cpu(workload: str, proxy: str) -> float | None:
        runs = results.get(workload, {}).get(proxy)
        return median(runs, "cpu_us") if runs else None

    def ratio(name: str, ours: float | None, theirs: float | None, most: float):
        if ours is not None and theirs is not None:
            yield name, ours / theirs, most

    for workload in ("one", "known"):
        yield from ratio(f"{workload}: times nginx plain", cpu(workload, "portcullis"), cpu(workload, "nginx"), 1.0)
    new, plain = cpu("new", "portcullis"), cpu("one", "nginx")
    if new is not None and plain is not None and verify_us:
        allowed = plain + 1.15 * statistics.median(verify_us)
        yield "new: times (nginx plain + 1.15 × RSA verification)", new / allowed, 1.0
    yield from ratio("new: times HAProxy jwt_verify", new, cpu("new", "haproxy-jwt"), 0.6)
    yield from ratio("new: times Envoy jwt_authn", new, cpu("new", "envoy-jwt"), 0.3)
    expired = cpu("expired", "portcullis")
    yield from ratio("expired: times Envoy's 401", expired, cpu("expired", "envoy-jwt"), 0.5)
    yield from ratio("expired: times HAProxy's 401", expired, cpu("expired", "haproxy-jwt"), 0.5)
    yield from ratio("expired: times nginx plain", expired, plain, 0.6)
    yield from ratio("full: times nginx plain", cpu("full", "portcullis-full"), plain, 1.25)
    yield from ratio("tls: times nginx with TLS", cpu("tls", "portcullis-tls-clients"), cpu("tls", "nginx-tls-clients"), 1.2)
    ours, theirs = cpu("handshake", "portcullis-tls-clients"), cpu("handshake", "nginx-tls-clients")
    yield from ratio("handshake and one request: times nginx with TLS", ours, theirs, 1.1)
    ours, theirs = cpu("upstream-tls", "portcullis-tls-upstream"), cpu("upstream-tls", "nginx-tls-upstream")
    yield from ratio("upstream-tls: times nginx with TLS", ours, theirs, 1.2)
    for field in ("p50_us", "p99_us"):
        runs = results.get("latency", {})
        if "portcullis" in runs and "nginx" in runs:
            yield f"latency, one connection: {field[:3]}", median(runs["portcullis"], field) / median(runs["nginx"], field), 1.1
    if "portcullis" in resident:
        yield "MiB resident, 64 connections", resident["portcullis"] / 1024, 20.0

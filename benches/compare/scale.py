def measure(given, options):
    return []

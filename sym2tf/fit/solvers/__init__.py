"""From a problem and its class to a minimum."""

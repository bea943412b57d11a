"""Which devices TensorFlow computes on, for `sym2tf doctor`."""

from __future__ import annotations

from sym2tf.lazy import lazy, stderr_kept_quiet

tf = lazy("tensorflow")


def devices() -> list[str]:
    """One line for each device, such as `"CPU:0"` or `"GPU:0 (NVIDIA H200)"`.

    Raises:
        ImportError: TensorFlow is not installed, or does not load.
    """
    found = tf.config.list_physical_devices()
    with stderr_kept_quiet():
        details = [tf.config.experimental.get_device_details(device) for device in found]
    names = [device.name.removeprefix("/physical_device:") for device in found]
    return [
        f"{name} ({detail['device_name']})" if "device_name" in detail else name
        for name, detail in zip(names, details, strict=True)
    ]

"""Messages of RFC 4254 by short names."""

from relays.ssh import codec

NAMES = {
    codec.GLOBAL_REQUEST: "global",
    codec.REQUEST_SUCCESS: "global_success",
    codec.REQUEST_FAILURE: "global_failure",
    codec.CHANNEL_OPEN: "open",
    codec.CHANNEL_OPEN_CONFIRMATION: "open_confirmation",
    codec.CHANNEL_OPEN_FAILURE: "open_failure",
    codec.CHANNEL_WINDOW_ADJUST: "window",
    codec.CHANNEL_DATA: "data",
    codec.CHANNEL_EXTENDED_DATA: "error",
    codec.CHANNEL_EOF: "eof",
    codec.CHANNEL_CLOSE: "close",
    codec.CHANNEL_REQUEST: "request",
    codec.CHANNEL_SUCCESS: "success",
    codec.CHANNEL_FAILURE: "failure",
}

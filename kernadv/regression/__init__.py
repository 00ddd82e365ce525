"""The statistics library: kernel regression, its bandwidths and its inference."""

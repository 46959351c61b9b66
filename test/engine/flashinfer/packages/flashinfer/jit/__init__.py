"""A stand-in for FlashInfer's generator: each module is a file that holds the arguments it was asked for with."""

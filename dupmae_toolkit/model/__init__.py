"""The network: backbone, lexical head, dense projection, the two decoders, checkpoints."""

"""Image tokenizers: the plug-in interface, the built-in ones, training and the token cache."""

"""Who lives together, as the population register (CSDLQG về dân cư) says, and the digital address they claim."""

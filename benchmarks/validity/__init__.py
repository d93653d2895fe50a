"""Whether charsweep's scores and recommendation agree with the truth about drawn images."""

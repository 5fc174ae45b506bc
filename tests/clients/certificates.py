"""Authorities and the certificates they issue, by openssl."""

from ground import need

NEW = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


class Authority:
    """An authority whose files are in a place, its own certificate in NAME.pem."""

    def __init__(self, place, name="ca"):
        need("openssl")
        self.place, self.certificate, self._key = place, place.path(f"{name}.pem"), place.path(f"{name}.key")
        place.run([*NEW, "-x509", "-days", "2", "-subj", f"/CN=test authority {name}", "-keyout", self._key, "-out", self.certificate])

    def issue(self, name, alternatives, usage="serverAuth"):
        """Makes NAME.pem and NAME.key for these alternative names; returns both paths."""
        certificate, key, request = (self.place.path(f"{name}.{end}") for end in ("pem", "key", "csr"))
        self.place.run([*NEW, "-subj", f"/CN=test {name}", "-keyout", key, "-out", request])
        extensions = self.place.write(f"{name}.ext", f"subjectAltName={','.join(alternatives)}\nextendedKeyUsage={usage}\n")
        self.place.run(["openssl", "x509", "-req", "-days", "2", "-in", request, "-CA", self.certificate, "-CAkey", self._key,
                        "-CAcreateserial", "-extfile", extensions, "-out", certificate])
        return certificate, key

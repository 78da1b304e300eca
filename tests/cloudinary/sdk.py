"""Does with the official SDK what outboxfs does:
    python3 sdk.py ENDPOINT CLOUD KEY SECRET ALGORITHM < [{"action", "file"?, "parameters"}, ...]
`file` is in base64. Prints a JSON array of the signatures that the SDK makes for `sign`.
"""
import base64
import io
import json
import sys

import cloudinary
import cloudinary.uploader
import cloudinary.utils

endpoint, cloud, key, secret, algorithm = sys.argv[1:]
cloudinary.config(
    cloud_name=cloud,
    api_key=key,
    api_secret=secret,
    upload_prefix=endpoint,
    signature_algorithm=algorithm,
)
signatures = []
for work in json.load(sys.stdin):
    parameters = work["parameters"]
    if work["action"] == "sign":
        sign = cloudinary.utils.api_sign_request
        signatures.append(sign(parameters, secret, algorithm))
    elif work["action"] == "upload":
        file = io.BytesIO(base64.b64decode(work["file"]))
        cloudinary.uploader.upload(file, filename="file", **parameters)
    elif work["action"] == "upload_large":
        file = io.BytesIO(base64.b64decode(work["file"]))
        cloudinary.uploader.upload_large(file, filename="file", **parameters)
    elif work["action"] == "destroy":
        cloudinary.uploader.destroy(**parameters)
    elif work["action"] == "rename":
        cloudinary.uploader.rename(**parameters)
json.dump(signatures, sys.stdout)

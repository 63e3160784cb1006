# Verifies access tokens by libraries of Ruby, in the form of verify.mjs.
require "openssl"
require "jwt"
require "json/jwt"

read = ->(name) { File.read("#{ARGV[0]}/#{name}").strip }
line = lambda do |library, rule, &verify|
  answer = begin
    verify.call ? "yes" : "no"
  rescue StandardError
    "no"
  end
  puts [library, rule, answer].join("\t")
end
rules = { aud: "api", verify_aud: true, iss: "https://api.example.com", verify_iss: true }

%w[EdDSA ES256 RS256].each do |alg|
  token, pem, set = read.(alg + ".token"), OpenSSL::PKey.read(read.(alg + ".pem")), JSON.parse(read.(alg + ".jwks"))
  line.("ruby-jwt", alg) { JWT.decode(token, pem, true, algorithm: alg, **rules) }
  line.("ruby-jwt", alg) { JWT.decode(token, nil, true, algorithms: [alg], jwks: JSON.parse(JSON.dump(set), symbolize_names: true), **rules) }
  line.("json-jwt", alg) { JSON::JWT.decode(token, JSON::JWK::Set.new(set)) }
end
token, pem = read.("ES256.token"), OpenSSL::PKey.read(read.("ES256.pem"))
line.("ruby-jwt", "without aud") { JWT.decode(token, pem, true, algorithm: "ES256") }
line.("ruby-jwt", "other aud") { JWT.decode(token, pem, true, algorithm: "ES256", aud: "other", verify_aud: true) }
line.("json-jwt", "without aud") { JSON::JWT.decode(token, pem, :ES256) }
line.("ruby-jwt", "expired") { JWT.decode(read.("expired.token"), pem, true, algorithm: "ES256") }
line.("json-jwt", "expired") { JSON::JWT.decode(read.("expired.token"), pem, :ES256) }

require "rbnacl"
x = JSON.parse(read.("EdDSA.jwks"))["keys"][0]["x"]
key = RbNaCl::Signatures::Ed25519::VerifyKey.new(x.tr("-_", "+/").unpack1("m"))
line.("ruby-jwt with rbnacl", "EdDSA") { JWT.decode(read.("EdDSA.token"), key, true, algorithm: "EdDSA", **rules) }

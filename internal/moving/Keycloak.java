// Prints the columns credential_data and secret_data of Keycloak's table credential, in the
// form of hashes.mjs. Debian does not have Keycloak: the classes are those that Keycloak
// calls, the JDK's for PBKDF2 and Bouncy Castle's for argon2, with the settings of its providers.
import java.nio.charset.StandardCharsets;
import java.security.SecureRandom;
import java.util.Base64;
import java.util.HexFormat;
import javax.crypto.SecretKeyFactory;
import javax.crypto.spec.PBEKeySpec;
import org.bouncycastle.crypto.generators.Argon2BytesGenerator;
import org.bouncycastle.crypto.params.Argon2Parameters;

public class Keycloak {
	public static void main(String[] passwords) throws Exception {
		for (String p : passwords) {
			pbkdf2(p, "pbkdf2-sha512", "PBKDF2WithHmacSHA512", 2100, 512);
			pbkdf2(p, "pbkdf2-sha256", "PBKDF2WithHmacSHA256", 2750, 256);
			pbkdf2(p, "pbkdf2-sha256", "PBKDF2WithHmacSHA256", 2750, 512); // older versions
			pbkdf2(p, "pbkdf2", "PBKDF2WithHmacSHA1", 2000, 512);
			byte[] salt = salt(), hash = new byte[32];
			Argon2BytesGenerator generator = new Argon2BytesGenerator();
			generator.init(new Argon2Parameters.Builder(Argon2Parameters.ARGON2_id).withVersion(Argon2Parameters.ARGON2_VERSION_13)
					.withSalt(salt).withParallelism(1).withMemoryAsKB(7168).withIterations(5).build());
			generator.generateBytes(p.toCharArray(), hash);
			line(p, 5, "argon2", "\"hashLength\":[\"32\"],\"memory\":[\"7168\"],\"type\":[\"id\"],\"version\":[\"1.3\"],\"parallelism\":[\"1\"]", salt, hash);
		}
	}

	static void pbkdf2(String p, String algorithm, String function, int iterations, int bits) throws Exception {
		byte[] salt = salt();
		String padded = p + "\0".repeat(Math.max(0, 14 - p.length())); // as Keycloak pads for BCFIPS
		byte[] key = SecretKeyFactory.getInstance(function).generateSecret(new PBEKeySpec(padded.toCharArray(), salt, iterations, bits)).getEncoded();
		line(p, iterations, algorithm, "", salt, key);
	}

	static byte[] salt() {
		byte[] salt = new byte[16];
		new SecureRandom().nextBytes(salt);
		return salt;
	}

	static void line(String p, int iterations, String algorithm, String more, byte[] salt, byte[] hash) {
		Base64.Encoder base64 = Base64.getEncoder();
		System.out.printf("keycloak\t%s\t{\"hashIterations\":%d,\"algorithm\":\"%s\",\"additionalParameters\":{%s}}\t{\"value\":\"%s\",\"salt\":\"%s\",\"additionalParameters\":{}}\n",
				HexFormat.of().formatHex(p.getBytes(StandardCharsets.UTF_8)), iterations, algorithm, more, base64.encodeToString(hash), base64.encodeToString(salt));
	}
}

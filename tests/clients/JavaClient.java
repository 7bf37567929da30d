import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;

/**
 * Java's HttpClient as it is by default: it prefers HTTP/2 and, without TLS, offers to upgrade to h2c.
 * Each argument is {@code METHOD URL [BODY]}, separated by spaces. Prints one line for each:
 * status, version and the body with its line breaks as spaces.
 */
public class JavaClient {
    public static void main(String[] requests) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        for (String text : requests) {
            String[] parts = text.split(" ", 3);
            var body = parts.length == 3
                    ? HttpRequest.BodyPublishers.ofString(parts[2])
                    : HttpRequest.BodyPublishers.noBody();
            HttpRequest request = HttpRequest.newBuilder(URI.create(parts[1])).method(parts[0], body).build();
            var response = client.send(request, BodyHandlers.ofString());
            String shown = response.body().replace('\n', ' ');
            System.out.println(response.statusCode() + " " + response.version() + " " + shown);
        }
    }
}

import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.nio.file.Files;
import java.util.Collections;
import java.util.logging.Level;
import java.util.logging.Logger;
import org.apache.catalina.Context;
import org.apache.catalina.startup.Tomcat;
import org.apache.tomcat.util.descriptor.web.FilterDef;
import org.apache.tomcat.util.descriptor.web.FilterMap;
import org.springframework.web.filter.ForwardedHeaderFilter;

/**
 * A service in Tomcat behind Spring's ForwardedHeaderFilter. It answers with what its code sees of a
 * request, one {@code name=value} per line. Prints its port, and runs until its input ends.
 */
public class SpringService {
    public static void main(String[] arguments) throws Exception {
        Logger.getLogger("org.apache").setLevel(Level.WARNING);
        Tomcat tomcat = new Tomcat();
        tomcat.setBaseDir(Files.createTempDirectory("portcullis-spring").toString());
        tomcat.setPort(0);
        tomcat.getConnector().setProperty("address", "127.0.0.1");
        Context context = tomcat.addContext("", null);
        FilterDef filter = new FilterDef();
        filter.setFilterName("forwarded");
        filter.setFilter(new ForwardedHeaderFilter());
        context.addFilterDef(filter);
        FilterMap everything = new FilterMap();
        everything.setFilterName("forwarded");
        everything.addURLPattern("/*");
        context.addFilterMap(everything);
        Tomcat.addServlet(context, "echo", new Echo());
        context.addServletMappingDecoded("/*", "echo");
        tomcat.start();
        System.out.println(tomcat.getConnector().getLocalPort());
        while (System.in.read() >= 0) {
        }
        tomcat.stop();
    }

    static class Echo extends HttpServlet {
        @Override
        protected void service(HttpServletRequest request, HttpServletResponse response) throws IOException {
            StringBuilder text = new StringBuilder();
            text.append("url=").append(request.getRequestURL()).append('\n');
            text.append("secure=").append(request.isSecure()).append('\n');
            text.append("remote=").append(request.getRemoteAddr()).append('\n');
            text.append("body=").append(new String(request.getInputStream().readAllBytes())).append('\n');
            for (String name : Collections.list(request.getHeaderNames())) {
                text.append("header=").append(name.toLowerCase()).append('\n');
            }
            response.setContentType("text/plain");
            response.getWriter().write(text.toString());
        }
    }
}
